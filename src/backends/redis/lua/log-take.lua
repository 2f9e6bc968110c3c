#!lua flags=allow-oom
-- Settles outcomes, then takes deliveries for one consumer of a group: due retries, abandoned ones, those that waited for
-- others of their key, new ones.
-- KEYS  1 stream  2 attempts  3 due  4 dead  5 groups  6 parked  7 dropped  8 sweep  9 busy  10 held  11 paused  12 deleted
--       13 limits
-- ARGV  1 group  2 consumer  3 how many deliveries to take, at most 1000; 0 only settles
--       4 "1" looks for abandoned deliveries, "2" for idle consumers as well, "0" for neither
--       5 "1" when acknowledgements may be of deliveries that are no longer held, "0" when that is not to be expected
--       6 the group's base as the consumer knows it  7 its order, which holds as long as the base does
--       8 positions of first deliveries to acknowledge, of that base, as a JSON list,
--       then five for each other outcome: "ack", "retry" or "dead", position, fence,
--         for a retry its delay in ms and "1" when it is counted, for a dead letter its reason as JSON and ""
-- Reply 1 gone, poisoned, ms until something is ready or -1, 1 when abandoned ones are left,
--         1 when the group is missing or 2 when it was deleted, 1 when it was found paused, its base,
--         and for a group with order the position to wait behind, "later" when there is none, "-" when that is not known
--       2 numbers of the outcomes that came too late, in the order of ARGV
--       3 receipts, of first deliveries just the position  4 the settings as JSON, or ""  5… the blob of each delivery
--@ entries
local stream, attempts, due, parked = KEYS[1], KEYS[2], KEYS[3], KEYS[6]
local group, consumer, max = ARGV[1], ARGV[2], tonumber(ARGV[3])
local FIRST_OTHER = 9
-- As one text, which a client sends several times quicker than many short ones; and nothing reads it quicker than this.
local plain = cjson.decode(ARGV[FIRST_OTHER - 1])
local LOOKED_AT = 1000
-- So often at most is it noted that something was taken or settled.
local PROGRESS_MS = 10

-- The base changes with each seek, and with the order: what was read under another one counts no more.
local known = redis.call('HMGET', KEYS[8], 'base', 'progress', 'ordered', 'unheld')
local base = known[1] or '0'
local isCurrent = base == ARGV[6]

-- What most calls come to: all is held for certain, nothing was ever retried, and nothing is to be taken. All else is made
-- when this is not enough. Nil, or how many were acknowledged.
local acknowledged
if max == 0 and isCurrent and ARGV[5] == '0' and ARGV[7] == 'none' and #ARGV < FIRST_OTHER
  and #plain > 0 and #plain <= LOOKED_AT and redis.call('EXISTS', attempts, due) == 0 then
  acknowledged = redis.call('XACK', stream, group, unpack(plain))
  if acknowledged == #plain then
    local time = redis.call('TIME')
    local nowMs = time[1] * 1000 + math.floor(time[2] / 1000)
    if math.abs(nowMs - (known[2] or 0)) >= PROGRESS_MS then
      redis.call('HSET', KEYS[8], 'progress', nowMs)
    end
    return { '0 0 -1 0 0 0 ' .. base .. ' -', '', '', '' }
  end
end

local lost, receipts, out = {}, {}, {}
local gone, poisoned, left, missing, waitBehind = 0, 0, 0, 0, '-'
local hasAttempts = redis.call('EXISTS', attempts) == 1

local clock
local function now()
  if not clock then
    local time = redis.call('TIME')
    clock = time[1] * 1000 + math.floor(time[2] / 1000)
  end
  return clock
end

-- The group's settings; nil when they are missing, and the group counts as missing then.
local stored, storedText
local function settings()
  if not stored then
    storedText = redis.call('HGET', KEYS[5], group)
    stored = storedText and cjson.decode(storedText)
    missing = stored and missing or 1
  end
  return stored
end

local paused
local function isPaused()
  if paused == nil then
    paused = redis.call('HGET', KEYS[11], group) and true or false
  end
  return paused
end

local order = ARGV[7]
if not isCurrent then
  order = settings() and settings().order or 'none'
end
local hasOrder = order ~= 'none'
-- Deliveries that have ended, where others may wait for that.
local ended = {}

-- Too few acknowledged can only mean that somebody tampered; the oldest are the likeliest.
local function loseOldest(numbers, short)
  for i = 1, short do
    lost[#lost + 1] = numbers[i]
  end
end

-- Acknowledges first deliveries: whatever `attempts` knows of has passed to another attempt.
local function acknowledge(from, to)
  local held, numbers = {}, {}
  local doubtful = ARGV[5] == '1'
  local states = hasAttempts and redis.call('HMGET', attempts, unpack(plain, from, to)) or {}
  for i = from, to do
    if not isCurrent or states[i - from + 1] or (doubtful and redis.call('XACK', stream, group, plain[i]) == 0) then
      lost[#lost + 1] = i
    else
      held[#held + 1] = plain[i]
      numbers[#numbers + 1] = i
    end
  end
  if acknowledged then
    loseOldest(numbers, #held - acknowledged)
  elseif not doubtful and #held > 0 then
    loseOldest(numbers, #held - redis.call('XACK', stream, group, unpack(held)))
  end
  for i = 1, hasOrder and #held or 0 do
    ended[#ended + 1] = held[i]
  end
end

-- Whether an entry was redriven for another group. Such ones are passed over, wherever they turn up.
local function isForeign(fields)
  return (groupOf(fields) or group) ~= group
end

-- Notes that the group no longer exists; other errors end the script.
local function unlessMissing(reply)
  if reply and reply.err then
    if not string.find(reply.err, 'NOGROUP', 1, true) then
      error(reply)
    end
    missing = 1
    return nil
  end
  return reply
end

local function readNew(count)
  local reply = unlessMissing(
    redis.pcall('XREADGROUP', 'GROUP', group, consumer, 'COUNT', count, 'STREAMS', stream, '>'))
  return reply and reply[1][2] or {}
end

local function takeNew()
  local looked = 0
  repeat
    local entries, others = readNew(max - #receipts), nil
    for _, entry in ipairs(entries) do
      local n, fields = #receipts + 1, entry[2]
      if fields[3] and isForeign(fields) then
        others = others or {}
        others[#others + 1] = entry[1]
      else
        receipts[n] = entry[1]
        out[n + 4] = fields[1] == 'm' and fields[2] or '\n' .. cjson.encode(fields)
      end
    end
    if others then
      redis.call('XACK', stream, group, unpack(others))
    end
    looked = looked + #entries
  until not others or #receipts >= max or looked >= LOOKED_AT
end

-- All but the commonest. What it needs is made when it runs, as most rounds need none.
local function carefully()
--@ positions
--@ deliveries
--@ turns
--@ adopting
  local keys = { stream = stream, parked = parked, busy = KEYS[9], held = KEYS[10] }

  local function finished(position)
    if hasOrder then
      ended[#ended + 1] = position
    end
  end

  local function passOnEnded()
    for from = 1, #ended, LOOKED_AT do
      passOn(keys, { unpack(ended, from, math.min(from + LOOKED_AT - 1, #ended)) })
    end
    ended = {}
  end

--@ claiming
--@ settling
--@ abandoned
--@ ordered
  for i = FIRST_OTHER, #ARGV, 5 do
    settle(#plain + (i - FIRST_OTHER) / 5 + 1, ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4])
  end
  if max > 0 then
    reportDropped()
    takeDue()
    if ARGV[4] ~= '0' and #receipts < max then
      sweep()
    end
  end
  -- With strict order the next one has not been read yet.
  local mayBeNext = order == 'strict' and max == 0 and #ended > 0
  if hasOrder then
    passOnEnded()
  end
  if max > 0 and hasOrder then
    adopt(keys, group, order, known[3])
    takeTurns()
    takeInOrder()
  elseif max > 0 and #receipts < max then
    takeNew()
  end
  if ARGV[4] == '2' and missing == 0 then
    removeIdleConsumers()
  end
  return mayBeNext or (hasOrder and #redis.call('ZRANGEBYLEX', keys.held, '[!', '("', 'LIMIT', 0, 1) > 0)
end

-- Ms until something is due, or -1.
local function untilDue()
  local head = redis.call('ZRANGE', due, 0, 0, 'WITHSCORES')
  return head[2] and math.max(0, tonumber(head[2]) - now()) or -1
end

for from = 1, #plain, LOOKED_AT do
  acknowledge(from, math.min(from + LOOKED_AT - 1, #plain))
end
local settled = #plain + (#ARGV - FIRST_OTHER + 1) / 5
local isPlain = settled == #plain and ARGV[4] == '0' and not hasOrder
local readyMs = isPlain and untilDue()
if isPlain and max > 0 and readyMs ~= 0 and not redis.call('HGET', KEYS[7], group) then
  takeNew()
elseif not isPlain or max > 0 then
  readyMs = carefully() and 0 or untilDue()
end

if (#receipts > 0 or #lost < settled or poisoned > 0) and math.abs(now() - (known[2] or 0)) >= PROGRESS_MS then
  redis.call('HSET', KEYS[8], 'progress', now())
end
-- What a paused group is handed out shows that it is not.
if (readyMs >= 0 or (#receipts == 0 and max > 0)) and isPaused() then
  readyMs = -1
end
if #lost > 0 then
  settings()
end
if missing == 1 and redis.call('HGET', KEYS[12], group) then
  missing = 2
end

out[1] = table.concat({
  gone, poisoned, string.format('%.0f', readyMs), left, missing, paused and 1 or 0, base, waitBehind,
}, ' ')
out[2] = table.concat(lost, ' ')
out[3] = table.concat(receipts, ' ')
out[4] = (ARGV[4] ~= '0' or not isCurrent) and settings() and storedText or ''
return out
