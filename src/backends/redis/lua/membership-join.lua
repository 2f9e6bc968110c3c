#!lua
-- Holds members in a group.
-- KEYS  1 state  2 members  3 order  4 fading  5 ids of the holder
-- ARGV  1 holder  2 number of the call  3 maxMembers
--       4… id, connections and meta of each member, at most 1000 of them
-- Reply LAPSED; STALE when a later call was here before; else as `closeCall` says
--@ holders
--@ members
local keys = { state = KEYS[1], members = KEYS[2], order = KEYS[3], fading = KEYS[4], ids = KEYS[5] }
local holder, number = ARGV[1], tonumber(ARGV[2])
local call, refusal = openCall(keys, holder, number)
if refusal then
  return refusal
end

local ids = {}
for i = 4, #ARGV, 3 do
  ids[#ids + 1] = ARGV[i]
end
local known = {}
for i, record in ipairs(#ids > 0 and redis.call('HMGET', keys.members, unpack(ids)) or {}) do
  known[ids[i]] = record
end
local room = ARGV[3] - redis.call('HLEN', keys.members)
local now = whole(call.nowMs)
local refused, held, records, places = {}, {}, {}, {}

-- Gives the holder its seat in a record. Returns the new record, or nil where nothing changes.
local function sit(record, connections, meta)
  local joinedAt, seats = seatsOf(record)
  local at = seatOf(seats, holder)
  local seat = at and seats[at]
  if seat and seat.meta == meta then
    if seat.connections == connections then
      return nil
    end
    seat.connections = connections
  else
    -- What is given anew is shown.
    if at then
      table.remove(seats, at)
    end
    table.insert(seats, 1, { connections = connections, holder = holder, meta = meta })
  end
  return recordOf(joinedAt, now, seats)
end

for i, id in ipairs(ids) do
  local connections, meta = ARGV[3 * i + 2], ARGV[3 * i + 3]
  local record = known[id]
  if record or room > 0 then
    held[#held + 1] = id
    local after = sit(record or (now .. ' ' .. now .. ' '), connections, meta)
    if after then
      known[id] = after
      records[#records + 1], records[#records + 2] = id, after
      local version = tell(call, record and 'updated' or 'joined', id, after)
      if not record then
        room = room - 1
        places[#places + 1], places[#places + 2] = version, id
      end
    end
  else
    refused[#refused + 1] = id
  end
end
if #records > 0 then
  redis.call('HSET', keys.members, unpack(records))
end
if #places > 0 then
  redis.call('ZADD', keys.order, unpack(places))
end
if #held > 0 then
  redis.call('SADD', keys.ids, unpack(held))
end
return closeCall(keys, call, holder, ARGV[2] .. ' ' .. whole(call.version), refused)
