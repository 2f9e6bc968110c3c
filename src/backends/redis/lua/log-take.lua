#!lua flags=allow-oom
-- Settles outcomes, then takes deliveries for one consumer of a group: due retries, abandoned ones, new ones.
-- KEYS  1 stream  2 attempts  3 due  4 dead  5 groups  6 parked  7 dropped  8 sweep
-- ARGV  1 group  2 consumer  3 how many deliveries to take, at most 1000; 0 only settles
--       4 "1" looks for abandoned deliveries, "2" for idle consumers as well, "0" for neither
--       5 "1" when acknowledgements may be of deliveries that are no longer held, "0" when that is not to be expected
--       6 positions of first deliveries to acknowledge, spaces between them,
--       then five for each other outcome: "ack", "retry" or "dead", position, fence,
--         for a retry its delay in ms and "1" when it is counted, for a dead letter its reason as JSON and ""
-- Reply 1 gone, poisoned, ms until a retry is due or -1, 1 when abandoned ones are left, 1 when the group is missing
--       2 numbers of the outcomes that came too late, in the order of ARGV  3 receipts  4… the blob of each
--@ positions
local stream, attempts, due, dead, parked = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[6]
local group, consumer, max = ARGV[1], ARGV[2], tonumber(ARGV[3])
-- As one text: a client sends one long argument several times quicker than many short ones.
local plain = {}
for position in string.gmatch(ARGV[6], '%S+') do
  plain[#plain + 1] = position
end
local LOOKED_AT = 1000
local POISONED_AT_ONCE = 200
local IDLE_CONSUMER_MS = 3600000

local lost, receipts, out = {}, {}, {}
local gone, poisoned, left, missing = 0, 0, 0, 0
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
local stored
local function settings()
  if not stored then
    local text = redis.call('HGET', KEYS[5], group)
    stored = text and cjson.decode(text)
    missing = stored and missing or 1
  end
  return stored
end

local function blobOf(fields)
  return fields[1] == 'm' and fields[2] or '\n' .. cjson.encode(fields)
end

-- Fence and attempt of what `attempts` says of a delivery: it knows nothing of first ones.
local function stateOf(text)
  if not text then
    return 0, 1
  end
  local fence, attempt = string.match(text, '^(%d+) (%d+)$')
  return tonumber(fence), tonumber(attempt)
end

local function parkedMember(position)
  return position .. ' ' .. group
end

-- Keeps a delivery that was just acknowledged back until `at`; the fence makes its old receipt worthless.
local function park(position, fence, attempt, at)
  hasAttempts = true
  redis.call('HSET', attempts, position, fence .. ' ' .. attempt)
  redis.call('ZADD', due, at, position)
  redis.call('ZADD', parked, string.match(position, '^%d+'), parkedMember(position))
end

-- Copies an entry to the dead letters; false when it no longer exists.
local function bury(position, attempt, holder, reason)
  local entry = redis.call('XRANGE', stream, position, position)[1]
  if not entry then
    gone = gone + 1
    return false
  end
  -- Without settings there is no limit for a moment, until the client has restored them.
  redis.call('XADD', dead, 'MAXLEN', '=', settings() and settings().maxDeadLetters or 1000000, '*',
    'p', position, 'a', attempt, 'c', holder, 'r', reason, 'm', blobOf(entry[2]))
  return true
end

local function deliver(position, fence, attempt, blob)
  receipts[#receipts + 1] = fence == 0 and position or position .. '/' .. fence .. '/' .. attempt
  out[#receipts + 3] = blob
end

-- Acknowledges first deliveries: whatever `attempts` knows of has passed to another attempt.
local function acknowledge(from, to)
  local held, numbers = {}, {}
  local states = hasAttempts and redis.call('HMGET', attempts, unpack(plain, from, to))
  for i = from, to do
    if states and states[i - from + 1] then
      lost[#lost + 1] = i
    else
      held[#held + 1] = plain[i]
      numbers[#numbers + 1] = i
    end
  end
  if ARGV[5] == '1' then
    for i, position in ipairs(held) do
      if redis.call('XACK', stream, group, position) == 0 then
        lost[#lost + 1] = numbers[i]
      end
    end
  elseif #held > 0 then
    -- Too few can only mean that somebody tampered; the oldest are the likeliest.
    local short = #held - redis.call('XACK', stream, group, unpack(held))
    for i = 1, short do
      lost[#lost + 1] = numbers[i]
    end
  end
end

local function settle(number, kind, position, fence, a, b)
  local state = hasAttempts and redis.call('HGET', attempts, position)
  local current, attempt = stateOf(state)
  if current ~= tonumber(fence) or redis.call('XACK', stream, group, position) == 0 then
    lost[#lost + 1] = number
    return
  end
  if kind == 'retry' then
    park(position, current + 1, attempt + tonumber(b), now() + tonumber(a))
    return
  end
  if kind == 'dead' then
    bury(position, attempt, consumer, a)
  end
  if state then
    redis.call('HDEL', attempts, position)
  end
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

-- Claims deliveries and hands them out as `attempts` has them by now. Returns the positions that exist, or nil.
local function claim(positions, ...)
  local words = { 'XCLAIM', stream, group, consumer, 0, unpack(positions) }
  for _, option in ipairs({ ... }) do
    words[#words + 1] = option
  end
  local entries = unlessMissing(redis.pcall(unpack(words)))
  if not entries then
    return nil
  end
  local states, existing = {}, {}
  for i, state in ipairs(redis.call('HMGET', attempts, unpack(positions))) do
    states[positions[i]] = state
  end
  for _, entry in ipairs(entries) do
    local fence, attempt = stateOf(states[entry[1]])
    existing[entry[1]] = true
    deliver(entry[1], fence, attempt, blobOf(entry[2]))
  end
  return existing
end

-- Forgets parked retries; those that had no entry any more are gone, unless whoever dropped them counted them.
local function unpark(positions, existing)
  redis.call('ZREM', due, unpack(positions))
  local members = {}
  for _, position in ipairs(positions) do
    if existing[position] then
      members[#members + 1] = parkedMember(position)
    else
      gone = gone + redis.call('ZREM', parked, parkedMember(position))
      redis.call('HDEL', attempts, position)
    end
  end
  if #members > 0 then
    redis.call('ZREM', parked, unpack(members))
  end
end

-- Reports what was dropped since the last report, and forgets parked retries among it.
local function reportDropped()
  local dropped = redis.call('HGET', KEYS[7], group)
  if not dropped then
    return
  end
  redis.call('HDEL', KEYS[7], group)
  gone = gone + dropped
  local first = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
  local stale = {}
  for _, position in ipairs(redis.call('ZRANGE', due, 0, LOOKED_AT - 1)) do
    if not first or isBefore(position, first[1]) then
      stale[#stale + 1] = position
    end
  end
  if #stale > 0 then
    unpark(stale, {})
  end
end

local function takeDue()
  local positions = redis.call('ZRANGEBYSCORE', due, '-inf', now(), 'LIMIT', 0, max)
  local existing = #positions > 0 and claim(positions, 'FORCE')
  if existing then
    unpark(positions, existing)
  end
end

-- Takes over one pending delivery whose lease has run out, or buries it when that was its last attempt.
local function takeOver(position, holder, abandoned)
  local fence, attempt = stateOf(redis.call('HGET', attempts, position))
  if attempt < settings().maxAttempts then
    redis.call('HSET', attempts, position, (fence + 1) .. ' ' .. (attempt + 1))
    abandoned[#abandoned + 1] = position
    return
  end
  local message = 'no consumer finished it in ' .. attempt .. ' attempts'
  if bury(position, attempt, holder, cjson.encode({ kind = 'abandoned', message = message })) then
    poisoned = poisoned + 1
  end
  redis.call('XACK', stream, group, position)
  redis.call('HDEL', attempts, position)
end

-- Looks at a slice of the pending deliveries. Consumers share the place where to go on, and begin anew once a second.
local function sweep()
  local leaseMs = settings() and settings().leaseMs
  if not leaseMs then
    return
  end
  local state = redis.call('HMGET', KEYS[8], 'after', 'began')
  local after = state[1]
  if not after then
    local sinceMs = now() - tonumber(state[2] or 0)
    if sinceMs >= 0 and sinceMs < 900 then
      return
    end
    redis.call('HSET', KEYS[8], 'began', now())
  end
  local pending = unlessMissing(redis.pcall('XPENDING', stream, group, after and '(' .. after or '-', '+', LOOKED_AT))
  if not pending then
    return
  end
  local abandoned = {}
  local complete = #pending < LOOKED_AT
  for _, delivery in ipairs(pending) do
    if delivery[3] >= leaseMs then
      if #receipts + #abandoned >= max or poisoned >= POISONED_AT_ONCE then
        complete = false
        left = 1
        break
      end
      takeOver(delivery[1], delivery[2], abandoned)
    end
    after = delivery[1]
  end
  if complete then
    redis.call('HDEL', KEYS[8], 'after')
  elseif after then
    left = 1
    redis.call('HSET', KEYS[8], 'after', after)
  end
  local existing = #abandoned > 0 and claim(abandoned) or {}
  for _, position in ipairs(abandoned) do
    if not existing[position] then
      -- XCLAIM has forgotten deliveries without an entry by itself.
      gone = gone + 1
      redis.call('HDEL', attempts, position)
    end
  end
end

local function removeIdleConsumers()
  for _, flat in ipairs(unlessMissing(redis.pcall('XINFO', 'CONSUMERS', stream, group)) or {}) do
    local other = fieldsOf(flat)
    if other.pending == 0 and other.idle > IDLE_CONSUMER_MS and other.name ~= consumer then
      redis.call('XGROUP', 'DELCONSUMER', stream, group, other.name)
    end
  end
end

local function takeNew()
  local room = max - #receipts
  if room <= 0 then
    return
  end
  local reply = unlessMissing(
    redis.pcall('XREADGROUP', 'GROUP', group, consumer, 'COUNT', room, 'STREAMS', stream, '>'))
  for _, entry in ipairs(reply and reply[1][2] or {}) do
    local n, fields = #receipts + 1, entry[2]
    receipts[n] = entry[1]
    out[n + 3] = fields[1] == 'm' and fields[2] or blobOf(fields)
  end
end

for from = 1, #plain, 1000 do
  acknowledge(from, math.min(from + 999, #plain))
end
local number = #plain
for i = 7, #ARGV, 5 do
  number = number + 1
  settle(number, ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4])
end
if max > 0 then
  reportDropped()
  takeDue()
  if ARGV[4] ~= '0' and #receipts < max then
    sweep()
  end
  takeNew()
  if ARGV[4] == '2' and missing == 0 then
    removeIdleConsumers()
  end
end

local head = redis.call('ZRANGE', due, 0, 0, 'WITHSCORES')
local untilDue = head[2] and math.max(0, tonumber(head[2]) - now()) or -1
out[1] = table.concat({ gone, poisoned, string.format('%.0f', untilDue), left, missing }, ' ')
out[2] = table.concat(lost, ' ')
out[3] = table.concat(receipts, ' ')
return out
