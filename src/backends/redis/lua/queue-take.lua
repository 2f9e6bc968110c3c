#!lua flags=allow-oom
-- Settles outcomes, then takes deliveries for one consumer of a recipient: the most urgent first.
-- KEYS  1 records  2 waiting  3 leased  4 due  5 attempts  6 expiry  7 counters  8 expiring  9 dead  10 bell  11 taken
-- ARGV  1 recipient  2 consumer  3 leaseMs  4 maxAttempts  5 maxDeadLetters
--       6 how many deliveries to take, at most 1000; 0 only settles
--       7 name of the feed  8 number of this call  9 number of its first call whose reply was lost, or 0
--       10 how many first deliveries to acknowledge, then their tickets, then their ids,
--       then five for each other outcome: "ack", "retry" or "dead", ticket, fence,
--         for a retry its delay in ms and "1" when it is counted, for a dead letter its reason as JSON and ""
-- Reply 1 gone, expired, poisoned, ms until something is ready or -1
--       2 numbers of the outcomes that came too late, in the order of ARGV
--       3 receipts, each on a line: the ticket of a first delivery, otherwise "+<fence>/<attempt>/<ticket>"
--       4… the blob of each; those of the lost reply first
--@ tickets
--@ expiry
local keys = {
  records = KEYS[1], waiting = KEYS[2], leased = KEYS[3], due = KEYS[4],
  attempts = KEYS[5], expiry = KEYS[6], counters = KEYS[7], expiring = KEYS[8],
}
local dead, bell, taken = KEYS[9], KEYS[10], KEYS[11]

-- Whoever waits looks every second anyway: a bell that nobody hears need not stay.
local function ringBell()
  if redis.call('ZADD', bell, 0, '1') == 1 then
    redis.call('PEXPIRE', bell, 60000)
  end
end
local recipient, consumer = ARGV[1], ARGV[2]
local leaseMs, maxAttempts, max = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[6])
local plain = tonumber(ARGV[10])
local SLICE = 1000
local AT_ONCE = 250

local now = nowMs()
local lost, receipts, out = {}, {}, {}
local gone, expired, poisoned = 0, 0, 0
local hasAttempts = redis.call('EXISTS', keys.attempts) == 1

-- Fence, attempt, consumer and first failure of what `attempts` says of a ticket, which is nothing of most first
-- deliveries: "<fence> <attempt>@<ms of the first failure> <consumer>", without what is not known.
local function stateOf(text)
  if not text then
    return 0, 1, '', ''
  end
  local fence, attempt, failedAt, holder = string.match(text, '^(%d+) (%d+)(@?%d*) ?(.*)$')
  return tonumber(fence), tonumber(attempt), holder, failedAt
end

-- The first failure as `attempts` has it, where it may be now.
local function firstFailure(failedAt)
  return failedAt ~= '' and failedAt or '@' .. string.format('%.0f', now)
end

local function forget(ticket)
  redis.call('HDEL', keys.records, idOf(ticket))
  redis.call('HDEL', keys.attempts, ticket)
  redis.call('ZREM', keys.expiry, ticket)
end

-- Puts a ticket that nobody holds any more back in line, or to wait until it is due.
local function giveBack(ticket, fence, attempt, failedAt, dueAt)
  local expiresAt = expiryOf(ticket)
  if expiresAt and expiresAt <= now then
    expired = expired + endExpired(keys, { ticket })
    return
  end
  hasAttempts = true
  redis.call('HSET', keys.attempts, ticket, fence .. ' ' .. attempt .. failedAt)
  if expiresAt then
    redis.call('ZADD', keys.expiry, expiresAt, ticket)
    redis.call('ZADD', keys.expiring, 'LT', expiresAt, recipient)
  end
  if dueAt <= now then
    redis.call('ZADD', keys.waiting, scoreOf(ticket), ticket)
    return
  end
  local soonest = redis.call('ZRANGE', keys.due, 0, 0, 'WITHSCORES')[2]
  redis.call('ZADD', keys.due, dueAt, ticket)
  -- Whoever waits has to know of something earlier to wait for.
  if not soonest or dueAt < tonumber(soonest) then
    ringBell()
  end
end

local function bury(ticket, attempt, holder, reason, failedAt)
  local id = idOf(ticket)
  local blob = redis.call('HGET', keys.records, id)
  if blob then
    local words = { 'p', id, 'a', attempt, 'c', holder, 'r', reason, 'pr', priorityOf(ticket), 'm', blob }
    if failedAt ~= '' then
      words[#words + 1], words[#words + 2] = 'f', string.sub(failedAt, 2)
    end
    redis.call('XADD', dead, 'MAXLEN', '=', ARGV[5], '*', unpack(words))
  else
    gone = gone + 1
  end
  forget(ticket)
end

-- Acknowledges first deliveries that are still held; the usual case, in which all of them are, takes no detours.
local function acknowledge(from, to)
  local scores = redis.call('ZMSCORE', keys.leased, unpack(ARGV, from, to))
  local states = hasAttempts and redis.call('HMGET', keys.attempts, unpack(ARGV, from, to))
  local tickets, ids, known, expiring = {}, {}, {}, {}
  for i = from, to do
    local ticket, state = ARGV[i], states and states[i - from + 1]
    if not scores[i - from + 1] or (state and stateOf(state) ~= 0) then
      lost[#lost + 1] = i - 10
    else
      tickets[#tickets + 1] = ticket
      ids[#ids + 1] = ARGV[i + plain]
      known[#known + 1] = state and ticket or nil
      expiring[#expiring + 1] = string.byte(ticket, PLACE + 1) ~= BAR and ticket or nil
    end
  end
  if #tickets > 0 then
    redis.call('ZREM', keys.leased, unpack(tickets))
    redis.call('HDEL', keys.records, unpack(ids))
  end
  if #known > 0 then
    redis.call('HDEL', keys.attempts, unpack(known))
  end
  if #expiring > 0 then
    redis.call('ZREM', keys.expiry, unpack(expiring))
  end
end

local function settle(number, kind, ticket, fence, a, b)
  local current, attempt, _, failedAt = stateOf(hasAttempts and redis.call('HGET', keys.attempts, ticket))
  if current ~= tonumber(fence) or redis.call('ZREM', keys.leased, ticket) == 0 then
    lost[#lost + 1] = number
  elseif kind == 'retry' then
    failedAt = b == '1' and firstFailure(failedAt) or failedAt
    giveBack(ticket, current + 1, attempt + tonumber(b), failedAt, now + tonumber(a))
  elseif kind == 'dead' then
    bury(ticket, attempt, consumer, a, failedAt)
  else
    forget(ticket)
  end
end

-- Takes back the leases that have run out.
local function sweep()
  for _, ticket in ipairs(redis.call('ZRANGEBYSCORE', keys.leased, '-inf', now, 'LIMIT', 0, AT_ONCE)) do
    local fence, attempt, holder, failedAt = stateOf(redis.call('HGET', keys.attempts, ticket))
    local expiresAt = expiryOf(ticket)
    redis.call('ZREM', keys.leased, ticket)
    if attempt < maxAttempts or (expiresAt and expiresAt <= now) then
      giveBack(ticket, fence + 1, attempt + 1, firstFailure(failedAt), now)
    else
      local message = 'no consumer finished it in ' .. attempt .. ' attempts'
      bury(ticket, attempt, holder, cjson.encode({ kind = 'abandoned', message = message }), failedAt)
      poisoned = poisoned + 1
    end
  end
end

local function promoteDue()
  local tickets = redis.call('ZRANGEBYSCORE', keys.due, '-inf', now, 'LIMIT', 0, SLICE / 2)
  if #tickets > 0 then
    local words = {}
    for i, ticket in ipairs(tickets) do
      words[2 * i - 1], words[2 * i] = scoreOf(ticket), ticket
    end
    redis.call('ZADD', keys.waiting, unpack(words))
    redis.call('ZREM', keys.due, unpack(tickets))
  end
end

-- Hands out tickets that are leased. What has no record any more is gone.
local function deliver(tickets, ids, states)
  local gones = {}
  for i, blob in ipairs(redis.call('HMGET', keys.records, unpack(ids))) do
    if blob then
      local receipt = tickets[i]
      if states and states[i] then
        local fence, attempt = stateOf(states[i])
        receipt = fence == 0 and receipt or '+' .. fence .. '/' .. attempt .. '/' .. receipt
      end
      receipts[#receipts + 1] = receipt
      out[#receipts + 3] = blob
    else
      gones[#gones + 1] = tickets[i]
    end
  end
  if #gones > 0 then
    gone = gone + #gones
    redis.call('ZREM', keys.leased, unpack(gones))
  end
end

-- Notes who holds what, where a dead letter may have to tell.
local function noteHolder(tickets, states)
  if maxAttempts > 1 and not states then
    return
  end
  local words = {}
  for i, ticket in ipairs(tickets) do
    if maxAttempts == 1 or (states and states[i]) then
      local fence, attempt, _, failedAt = stateOf(states and states[i])
      words[#words + 1] = ticket
      words[#words + 1] = fence .. ' ' .. attempt .. failedAt .. ' ' .. consumer
    end
  end
  for from = 1, #words, SLICE do
    redis.call('HSET', keys.attempts, unpack(words, from, math.min(from + SLICE - 1, #words)))
  end
end

-- Leases up to `room` of the most urgent; returns false when nothing is left.
local function takeWaiting(room)
  local popped = redis.call('ZPOPMIN', keys.waiting, room)
  local tickets, ids, leases, ended = {}, {}, {}, {}
  local leaseEnd = string.format('%.0f', now + leaseMs)
  for i = 1, #popped, 2 do
    local ticket = popped[i]
    if string.byte(ticket, PLACE + 1) ~= BAR and expiryOf(ticket) <= now then
      ended[#ended + 1] = ticket
    else
      local n = #tickets + 1
      tickets[n], ids[n] = ticket, idOf(ticket)
      leases[2 * n - 1], leases[2 * n] = leaseEnd, ticket
    end
  end
  if #ended > 0 then
    expired = expired + endExpired(keys, ended)
  end
  if #tickets > 0 then
    for from = 1, #leases, SLICE do
      redis.call('ZADD', keys.leased, unpack(leases, from, math.min(from + SLICE - 1, #leases)))
    end
    local states = hasAttempts and redis.call('HMGET', keys.attempts, unpack(tickets))
    noteHolder(tickets, states)
    deliver(tickets, ids, states)
  end
  return #popped == 2 * room
end

-- What an earlier call took whose reply never arrived, as far as this consumer still holds it. It is the last one that
-- took anything, and had what others before it lost.
local function takeAgain(firstLost)
  local feed, call, kept = string.match(redis.call('GET', taken) or '', '^(%S+) (%d+)\n(.*)$')
  local tickets, ids, states = {}, {}, {}
  if feed ~= ARGV[7] or tonumber(call) < firstLost then
    return
  end
  for receipt in string.gmatch(kept, '[^\n]+') do
    local fence, ticket = string.match(receipt, '^%+(%d+)/%d+/(.*)$')
    ticket = ticket or receipt
    local state = redis.call('HGET', keys.attempts, ticket)
    if stateOf(state) == tonumber(fence or 0) and redis.call('ZSCORE', keys.leased, ticket) then
      tickets[#tickets + 1], ids[#ids + 1], states[#states + 1] = ticket, idOf(ticket), state
    end
  end
  if #tickets > 0 then
    deliver(tickets, ids, states)
  end
end

for from = 11, 10 + plain, SLICE do
  acknowledge(from, math.min(from + SLICE - 1, 10 + plain))
end
local number = plain
for i = 11 + 2 * plain, #ARGV, 5 do
  number = number + 1
  settle(number, ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4])
end
if ARGV[9] ~= '0' then
  takeAgain(tonumber(ARGV[9]))
end
if max > 0 then
  local unreported = redis.call('HGET', keys.counters, 'unreported')
  if unreported then
    redis.call('HDEL', keys.counters, 'unreported')
    expired = expired + unreported
  end
  sweep()
  expired = expired + expireWaiting(keys, recipient, now)
  promoteDue()
  local attemptsToFill = 4
  while #receipts < max and attemptsToFill > 0 and takeWaiting(max - #receipts) do
    attemptsToFill = attemptsToFill - 1
  end
  if #receipts > 0 then
    -- Kept as long as the leases: should the reply be lost, the next call asks for it.
    redis.call('SET', taken, ARGV[7] .. ' ' .. ARGV[8] .. '\n' .. table.concat(receipts, '\n'), 'PX', leaseMs)
  end
end

local ready = -1
if redis.call('EXISTS', keys.waiting) == 1 then
  -- One bell wakes one consumer, so each wakes the next as long as there is something to take.
  ringBell()
  ready = 0
else
  for _, key in ipairs({ keys.due, keys.leased }) do
    local soonest = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')[2]
    local ms = soonest and math.max(0, tonumber(soonest) - now)
    if ms and (ready < 0 or ms < ready) then
      ready = ms
    end
  end
end
out[1] = table.concat({ gone, expired, poisoned, string.format('%.0f', ready) }, ' ')
out[2] = table.concat(lost, ' ')
out[3] = table.concat(receipts, '\n')
return out
