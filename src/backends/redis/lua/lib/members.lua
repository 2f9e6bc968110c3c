-- The members of a group, and who holds them. Needs `holders`.
-- `keys`: state, members, order, fading, ids.
-- A member's record is "<joinedAt> <lastSeen> " and then for each holder, the one whose meta was given last first,
-- "<connections> <bytes of the holder> <bytes of the meta> <holder><meta>".

-- What is known of a holder without members, and of a group without any, is kept so long: a call that was interrupted may
-- come as late as that, and changes nothing then.
local FORGET_MS = 600000

local function seatsOf(record)
  local joinedAt, at = string.match(record, '^(%d+) %d+ ()')
  local seats = {}
  while at <= #record do
    local connections, holderBytes, metaBytes, from = string.match(record, '^(%d+) (%d+) (%d+) ()', at)
    local middle = from + holderBytes
    at = middle + metaBytes
    seats[#seats + 1] = {
      connections = connections,
      holder = string.sub(record, from, middle - 1),
      meta = string.sub(record, middle, at - 1),
    }
  end
  return joinedAt, seats
end

local function recordOf(joinedAt, lastSeen, seats)
  local parts = { joinedAt .. ' ' .. lastSeen .. ' ' }
  for _, seat in ipairs(seats) do
    local sizes = seat.connections .. ' ' .. #seat.holder .. ' ' .. #seat.meta .. ' '
    parts[#parts + 1] = sizes .. seat.holder .. seat.meta
  end
  return table.concat(parts)
end

-- Where among the seats the holder's is, or nil.
local function seatOf(seats, holder)
  for i, seat in ipairs(seats) do
    if seat.holder == holder then
      return i
    end
  end
end

-- A holder's call on a group; its number tells it from one that was made before and comes late. Where there is none, the
-- second result says why, and the third is the group's version.
local function openCall(keys, holder, number)
  local state = redis.call('HMGET', keys.state, 'v', 'h' .. holder)
  local mark = state[2] or '0'
  if mark == '-' then
    return nil, 'LAPSED', state[1] or '0'
  end
  if tonumber(string.match(mark, '^%d+')) > number then
    return nil, 'STALE'
  end
  local time = redis.call('TIME')
  local micros = time[1] * 1000000 + time[2]
  local version = tonumber(state[1] or 0)
  return { from = version, version = version, micros = micros, nowMs = math.floor(micros / 1000), changes = {} }
end

-- Versions are microseconds since the epoch, or one more than the last: those of a group that was lost do not come again.
local function tell(call, kind, id, record)
  call.version = math.max(call.version + 1, call.micros)
  local changes = call.changes
  local at = #changes
  changes[at + 1], changes[at + 2], changes[at + 3] = kind, id, record
  return whole(call.version)
end

-- Takes the holder's seats away from members.
local function rise(keys, call, holder, ids, lastSeen)
  local removed, saved = {}, {}
  for i, record in ipairs(#ids > 0 and redis.call('HMGET', keys.members, unpack(ids)) or {}) do
    local joinedAt, seats = nil, {}
    if record then
      joinedAt, seats = seatsOf(record)
    end
    local at = seatOf(seats, holder)
    if at and #seats == 1 then
      removed[#removed + 1] = ids[i]
      tell(call, 'left', ids[i], recordOf(joinedAt, lastSeen, seats))
    elseif at then
      table.remove(seats, at)
      local left = recordOf(joinedAt, lastSeen, seats)
      saved[#saved + 1], saved[#saved + 2] = ids[i], left
      tell(call, 'updated', ids[i], left)
    end
  end
  if #removed > 0 then
    redis.call('HDEL', keys.members, unpack(removed))
    redis.call('ZREM', keys.order, unpack(removed))
  end
  if #saved > 0 then
    redis.call('HSET', keys.members, unpack(saved))
  end
end

-- Writes down what a call came to, and the reply: the version before it and after it, 1 when the holder has nobody here any
-- more, what was refused, and of each change its kind, the id and the record.
local function closeCall(keys, call, holder, mark, refused)
  redis.call('HSET', keys.state, 'h' .. holder, mark, unpack(call.version > 0 and { 'v', whole(call.version) } or {}))
  local isEmpty = redis.call('EXISTS', keys.ids) == 0
  if isEmpty then
    redis.call('ZADD', keys.fading, call.nowMs, holder)
  else
    redis.call('ZREM', keys.fading, holder)
  end
  local forgotten = redis.call('ZRANGEBYSCORE', keys.fading, '-inf', call.nowMs - FORGET_MS, 'LIMIT', 0, 100)
  for _, name in ipairs(forgotten) do
    redis.call('HDEL', keys.state, 'h' .. name)
    redis.call('ZREM', keys.fading, name)
  end
  local isDeserted = redis.call('EXISTS', keys.members) == 0
  for _, key in ipairs({ keys.state, keys.fading }) do
    if isDeserted then
      redis.call('PEXPIRE', key, FORGET_MS)
    else
      redis.call('PERSIST', key)
    end
  end
  return { whole(call.from), whole(call.version), isEmpty and 1 or 0, refused, unpack(call.changes) }
end
