#!lua
-- Appends a batch of entries, all or none, and makes room for them first. Ids that the stream remembers are left out.
-- KEYS  1 stream  2 parked  3 dropped  4 publisher  5 limits  6 paused, when ids are given 7 and 8 their two generations
-- ARGV  1 number of the batch  2 number of the batch it must not overtake, or 0  3 slot for the result
--       4 maxEntries  5 "reject", "block" or "drop-oldest"  6 maxAgeMs, or ""; all three unless others are stored
--       7 what follows the blobs: "1" keys, "2" ids, "3" keys and ids, or "0"
--       with ids 8 how many of them a generation holds  9 how long it lasts, in ms
--       then the blob of each entry, and "+" and its key, or nothing, and "+" and its id, or nothing
-- Reply the first position that was given, whose others follow it one by one, or "-" when there is none, and for each
--         duplicate its number in the batch, ":" and the earlier position; when nothing was stored GAP, FORGOTTEN, or
--         LIMIT, maxEntries, maxAgeMs or "-", and the name of the group in the way, if there is one
--@ publisher
local stream = KEYS[1]
local number, slot = ARGV[1], ARGV[3]
local keyed, hasIds = ARGV[7] == '1' or ARGV[7] == '3', ARGV[7] == '2' or ARGV[7] == '3'
local FIRST = hasIds and 10 or 8
local stride = 1 + (keyed and 1 or 0) + (hasIds and 1 or 0)
local count = (#ARGV - FIRST + 1) / stride
-- Room is made in slices of this share of the stream, so that a full one does not trim at each append.
local TRIM_SHARE = 0.01
-- Most entries dropped at a time for their age.
local AGED_AT_ONCE = 5000

local earlier, putOffMs = earlierResult(KEYS[4], tonumber(number), tonumber(ARGV[2]), slot)
if earlier then
  return earlier
end

local maxEntries, overflow, maxAgeMs = tonumber(ARGV[4]), ARGV[5], tonumber(ARGV[6])
local limits = redis.call('HMGET', KEYS[5], 'retention', 'agedAt', 'ids')
if limits[1] then
  local retention = cjson.decode(limits[1])
  maxEntries, overflow, maxAgeMs = retention.maxEntries, retention.overflow, retention.maxAgeMs
end

-- Ids after the first continue its sequence, even when the clock moves on, so that the reply need not list them.
local first, nextId
local function store(i)
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
  return id
end

-- The usual case needs nothing of what follows.
local length = redis.call('XLEN', stream)
if not hasIds and not maxAgeMs and length + count <= maxEntries then
  for i = FIRST, #ARGV, stride do
    store(i)
  end
  return remember(KEYS[4], number, slot, first, tonumber(string.match(first, '^%d+')), putOffMs)
end

local time
local function now()
  time = time or redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Makes room for `excess` entries, and drops what is too old when it is time to look. Returns false and the group in the
-- way when that must not be.
local function makeRoom(excess, ages)
--@ positions
--@ entries
--@ room
  local keys = { stream = stream, parked = KEYS[2], dropped = KEYS[3], limits = KEYS[5], paused = KEYS[6] }
  local mayLose = overflow == 'drop-oldest'
  if ages then
    local freed, more, inTheWay = dropAged(keys, now() - maxAgeMs, mayLose, AGED_AT_ONCE)
    if inTheWay then
      return false, inTheWay
    end
    if not more then
      redis.call('HSET', keys.limits, 'agedAt', now())
    end
    length, excess = length - freed, excess - freed
  end
  if excess <= 0 or length == 0 then
    return excess <= 0 or mayLose
  end
  local slice = math.max(excess, math.ceil(maxEntries * TRIM_SHARE))
  local first, slowest, groups = firstUnfinished(keys)
  if not first then
    trim(keys, 'MAXLEN', '=', math.max(0, length - slice))
    return mayLose or length >= excess
  end
  local freed = trimBefore(keys, first, slice)
  if freed < excess and mayLose then
    local foreign = lookAtDropped(keys, groups, '+', excess - freed)
    trim(keys, 'MAXLEN', '=', math.max(0, length - excess))
    account(keys, groups, foreign)
    return true
  end
  return freed >= excess, slowest
end

-- Returns what a batch is answered with that is refused, or nil when there is room for so many entries.
local function refusal(adding)
  local excess = length + adding - maxEntries
  local ages = false
  if maxAgeMs and length > 0 then
    local sinceMs = now() - (limits[2] or 0)
    ages = sinceMs < 0 or sinceMs >= math.min(1000, maxAgeMs / 10)
  end
  if excess <= 0 and not ages then
    return nil
  end
  local hasRoom, inTheWay = false, nil
  -- What the stream could never hold is refused before anything is dropped for it.
  if adding <= maxEntries or overflow == 'drop-oldest' then
    hasRoom, inTheWay = makeRoom(excess, ages)
  end
  local age = maxAgeMs and string.format('%.0f', maxAgeMs) or '-'
  return not hasRoom and table.concat({ 'LIMIT', string.format('%.0f', maxEntries), age, inTheWay or '' }, ' ') or nil
end

-- What a batch with ids comes to.
local function appendOnce()
--@ dedupe
  local generations = { KEYS[7], KEYS[8] }
  local ids, numbers, firstOf, duplicates, found = {}, {}, {}, {}, 0
  for entry = 1, count do
    local id = ARGV[FIRST + entry * stride - 1]
    if id ~= '' and firstOf[id] then
      -- The number of the entry of this batch that has its id.
      duplicates[entry], found = firstOf[id], found + 1
    elseif id ~= '' then
      firstOf[id] = entry
      ids[#ids + 1], numbers[#numbers + 1] = string.sub(id, 2), entry
    end
  end
  local newIds, new = {}, {}
  for i, position in ipairs(lookUpIds(generations, ids)) do
    if position then
      duplicates[numbers[i]], found = position, found + 1
    else
      newIds[#newIds + 1], new[#new + 1] = ids[i], numbers[i]
    end
  end
  if found < count then
    local refused = refusal(count - found)
    if refused then
      return refused
    end
  end
  local positions = {}
  for entry = 1, count do
    if not duplicates[entry] then
      positions[entry] = store(FIRST + (entry - 1) * stride)
    end
  end
  if #new > 0 then
    local given = {}
    for i, entry in ipairs(new) do
      given[i] = positions[entry]
    end
    rememberIds(generations, KEYS[5], limits[3], newIds, given, tonumber(ARGV[8]), tonumber(ARGV[9]), now())
  end
  local reply = { first or '-' }
  for entry = 1, count do
    local earlierOne = duplicates[entry]
    if earlierOne then
      -- Of this batch, and that entry may be a duplicate itself.
      reply[#reply + 1] = entry .. ':' .. (positions[earlierOne] or duplicates[earlierOne] or earlierOne)
    end
  end
  return table.concat(reply, ' ')
end

local result
if hasIds then
  result = appendOnce()
else
  result = refusal(count)
  if not result then
    for i = FIRST, #ARGV, stride do
      store(i)
    end
    result = first
  end
end
return remember(KEYS[4], number, slot, result, now(), putOffMs)
