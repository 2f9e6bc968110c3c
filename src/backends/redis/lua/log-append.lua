#!lua
-- Appends a batch of entries, all or none, and makes room for them first.
-- KEYS  1 stream  2 parked  3 dropped  4 publisher
-- ARGV  1 number of the batch  2 number of the batch it must not overtake, or 0  3 slot for the result
--       4 maxEntries  5 "reject" or "drop-oldest"  6 "1" when keys follow the blobs
--       7… the blob of each entry, with ARGV 6 followed by "+" and its key, or nothing
-- Reply the first entry's position, whose others follow it one by one; GAP, LIMIT or FORGOTTEN when nothing was stored
--@ publisher
local stream, parked, dropped = KEYS[1], KEYS[2], KEYS[3]
local number, slot = ARGV[1], ARGV[3]
local maxEntries, keyed = tonumber(ARGV[4]), ARGV[6] == '1'
-- Room is made in slices of this share of the stream, so that a full one does not trim at each append.
local TRIM_SHARE = 0.01

local earlier, putOffMs = earlierResult(KEYS[4], tonumber(number), tonumber(ARGV[2]), slot)
if earlier then
  return earlier
end

-- Makes room by dropping the oldest, finished ones unless the stream may lose others. Returns whether there is enough.
-- What it needs is made when it runs, as most appends need none.
local function makeRoom(length, excess)
--@ positions

  -- The oldest parked retry of a group that still exists, or nil.
  local function oldestParked(groups)
    while true do
      local head = redis.call('ZRANGE', parked, 0, 0, 'WITHSCORES')
      if not head[1] then
        return nil
      end
      -- All of that millisecond: within one, members do not sort as positions do.
      local oldest, from = nil, 0
      repeat
        local sameMs = redis.call('ZRANGEBYSCORE', parked, head[2], head[2], 'LIMIT', from, 1000)
        local orphans = {}
        for _, member in ipairs(sameMs) do
          local position, group = string.match(member, '^(%S+) (.*)$')
          if not groups[group] then
            orphans[#orphans + 1] = member
          elseif not oldest or isBefore(position, oldest) then
            oldest = position
          end
        end
        if #orphans > 0 then
          redis.call('ZREM', parked, unpack(orphans))
        end
        from = from + #sameMs - #orphans
      until #sameMs < 1000
      if oldest then
        return oldest
      end
    end
  end

  -- The oldest position that some group has not finished, and the groups; nil when every entry is finished.
  local function firstUnfinished()
    local groups, first = {}, nil
    for _, flat in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
      local group = fieldsOf(flat)
      groups[group.name] = group
      local ms, sequence = string.match(group['last-delivered-id'], '^(%d+)-(%d+)$')
      local candidate = ms .. '-' .. string.format('%.0f', tonumber(sequence) + 1)
      if group.pending > 0 then
        candidate = redis.call('XPENDING', stream, group.name)[2]
      end
      if not first or isBefore(candidate, first) then
        first = candidate
      end
    end
    local waiting = first and oldestParked(groups)
    if waiting and isBefore(waiting, first) then
      first = waiting
    end
    return first, groups
  end

  -- Trims up to `slice` of the entries before `first`: whole nodes at once, and what is left of one by looking at it.
  local function trimFinished(first, slice)
    local freed = redis.call('XTRIM', stream, 'MINID', '~', first, 'LIMIT', slice)
    local rest = freed < slice and redis.call('XRANGE', stream, '-', '(' .. first, 'COUNT', slice - freed) or {}
    if #rest > 0 then
      local ms, sequence = string.match(rest[#rest][1], '^(%d+)-(%d+)$')
      local next = ms .. '-' .. string.format('%.0f', tonumber(sequence) + 1)
      freed = freed + redis.call('XTRIM', stream, 'MINID', '=', next)
    end
    return freed
  end

  -- Counts, for each group, what was dropped before it was delivered or while it was parked.
  local function account(groups)
    local info = fieldsOf(redis.call('XINFO', 'STREAM', stream))
    local trimmed = info['entries-added'] - info.length
    for name, group in pairs(groups) do
      local read = group['entries-read']
      if read and read < trimmed then
        redis.call('HINCRBY', dropped, name, trimmed - read)
        redis.call('XGROUP', 'SETID', stream, name, group['last-delivered-id'], 'ENTRIESREAD', trimmed)
      end
    end
    local oldest = info['first-entry'] and info['first-entry'][1]
    local upTo = oldest and string.match(oldest, '^%d+') or '+inf'
    for _, member in ipairs(redis.call('ZRANGEBYSCORE', parked, '-inf', upTo, 'LIMIT', 0, 1000)) do
      local position, name = string.match(member, '^(%S+) (.*)$')
      if not oldest or isBefore(position, oldest) then
        redis.call('ZREM', parked, member)
        redis.call('HINCRBY', dropped, name, 1)
      end
    end
  end

  local slice = math.max(excess, math.ceil(maxEntries * TRIM_SHARE))
  local first, groups = firstUnfinished()
  if not first then
    redis.call('XTRIM', stream, 'MAXLEN', '=', math.max(0, length - slice))
    return length >= excess
  end
  local freed = trimFinished(first, slice)
  if freed < excess and ARGV[5] == 'drop-oldest' then
    redis.call('XTRIM', stream, 'MAXLEN', '=', math.max(0, length - excess))
    account(groups)
    return true
  end
  return freed >= excess
end

local count = keyed and (#ARGV - 6) / 2 or #ARGV - 6
local length = redis.call('XLEN', stream)
local excess = length + count - maxEntries
local rejects = ARGV[5] ~= 'drop-oldest'
-- A batch that the stream could never hold is refused before anything is dropped for it.
if excess > 0 and rejects and (count > maxEntries or length == 0 or not makeRoom(length, excess)) then
  local time = redis.call('TIME')
  return remember(KEYS[4], number, slot, 'LIMIT', time[1] * 1000, putOffMs)
end
if excess > 0 and not rejects and length > 0 then
  makeRoom(length, excess)
end

-- Ids after the first continue its sequence, even when the clock moves on, so that the reply need not list them.
local first, nextId
for i = 7, #ARGV, keyed and 2 or 1 do
  local key = keyed and ARGV[i + 1] or ''
  local id
  if key ~= '' then
    id = redis.call('XADD', stream, nextId or '*', 'm', ARGV[i], 'k', string.sub(key, 2))
  else
    id = redis.call('XADD', stream, nextId or '*', 'm', ARGV[i])
  end
  if not first then
    first = id
    nextId = string.match(id, '^%d+') .. '-*'
  end
end
return remember(KEYS[4], number, slot, first, tonumber(string.match(first, '^%d+')), putOffMs)
