#!lua
-- Stores a batch of items, all or none, except for ids that the queue holds already.
-- KEYS  1 records  2 line  3 expiring  4 publisher, then for each recipient 5… waiting, due, bell, expiry
-- ARGV  1 number of the batch  2 number of the batch it must not overtake, or 0  3 slot for the result
--       4 maxItems  5 "1" when items have a delay or a time to live  6 how many items
--       then for each recipient its name and how many items it gets,
--       and for each of those its id, its blob, "<place in the batch>|<priority>|", minus its priority,
--       with ARGV 5 also its delay in ms and its time to live in ms, or ""
-- Reply "OK" and the numbers of the duplicates; GAP, LIMIT or FORGOTTEN when nothing was stored
--@ publisher
--@ tickets
--@ line
local records = KEYS[1]
local number, slot = ARGV[1], ARGV[3]
local timed, count = ARGV[5] == '1', tonumber(ARGV[6])
local stride = timed and 6 or 4
-- Most words that one command is given.
local SLICE = 1000

local earlier, putOffMs = earlierResult(KEYS[4], tonumber(number), tonumber(ARGV[2]), slot)
if earlier then
  return earlier
end

-- Calls a command with many words in slices; an even number of them, so that pairs stay together.
local function callWith(command, key, words)
  for from = 1, #words, SLICE do
    redis.call(command, key, unpack(words, from, math.min(from + SLICE - 1, #words)))
  end
end

local now = nowMs()
local ids = {}
local at = 7
while at < #ARGV do
  local items = tonumber(ARGV[at + 1])
  for i = at + 2, at + 1 + items * stride, stride do
    ids[#ids + 1] = ARGV[i]
  end
  at = at + 2 + items * stride
end

local duplicates, isDuplicate = {}, {}
for from = 1, count, SLICE do
  local to = math.min(from + SLICE - 1, count)
  for i, blob in ipairs(redis.call('HMGET', records, unpack(ids, from, to))) do
    if blob then
      duplicates[#duplicates + 1] = from + i - 1
      isDuplicate[from + i - 1] = true
    end
  end
end
if redis.call('HLEN', records) + count - #duplicates > tonumber(ARGV[4]) and #duplicates < count then
  return remember(KEYS[4], number, slot, 'LIMIT', now, putOffMs)
end

local line = nextPlace(KEYS[2])
local pairsToStore = {}
local item = 0

local function store(recipient, key, first, last)
  local waiting, due, expiry = {}, {}, {}
  for i = first, last, stride do
    item = item + 1
    if not isDuplicate[item] then
      local id, tail, ttl = ARGV[i], ARGV[i + 2], timed and ARGV[i + 5] or ''
      local ticket
      if ttl == '' then
        ticket = line .. tail .. id
      else
        local expiresAt = string.format('%.0f', now + ttl)
        ticket = line .. string.sub(tail, 1, 3) .. expiresAt .. string.sub(tail, 4) .. id
        expiry[#expiry + 1] = expiresAt
        expiry[#expiry + 1] = ticket
      end
      pairsToStore[#pairsToStore + 1] = id
      pairsToStore[#pairsToStore + 1] = ARGV[i + 1]
      local delay = timed and tonumber(ARGV[i + 4]) or 0
      local target = delay > 0 and due or waiting
      target[#target + 1] = delay > 0 and now + delay or ARGV[i + 3]
      target[#target + 1] = ticket
    end
  end
  local soonestDue = #due > 0 and redis.call('ZRANGE', KEYS[key + 1], 0, 0, 'WITHSCORES')[2]
  callWith('ZADD', KEYS[key], waiting)
  callWith('ZADD', KEYS[key + 1], due)
  callWith('ZADD', KEYS[key + 3], expiry)
  local soonestExpiry
  for i = 1, #expiry, 2 do
    if not soonestExpiry or tonumber(expiry[i]) < tonumber(soonestExpiry) then
      soonestExpiry = expiry[i]
    end
  end
  if soonestExpiry then
    redis.call('ZADD', KEYS[3], 'LT', soonestExpiry, recipient)
  end
  -- Whoever waits has to know of something earlier to wait for, too.
  local ring = #waiting > 0
  for i = 1, #due, 2 do
    ring = ring or not soonestDue or due[i] < tonumber(soonestDue)
  end
  if ring then
    -- Whoever waits looks every second anyway: a bell that nobody hears need not stay.
    if redis.call('ZADD', KEYS[key + 2], 0, '1') == 1 then
      redis.call('PEXPIRE', KEYS[key + 2], 60000)
    end
  end
end

at = 7
local key = 5
while at < #ARGV do
  local last = at + 1 + tonumber(ARGV[at + 1]) * stride
  store(ARGV[at], key, at + 2, last)
  at, key = last + 1, key + 4
end
callWith('HSET', records, pairsToStore)
return remember(KEYS[4], number, slot, #duplicates == 0 and 'OK' or 'OK ' .. table.concat(duplicates, ' '), now, putOffMs)
