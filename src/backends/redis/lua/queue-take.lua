#!lua flags=allow-oom
-- Settles outcomes, then takes deliveries for one consumer of a recipient: the most urgent first.
-- KEYS  1 records  2 state  3 expiring  4 one that never exists  5 waiting  6 leased  7 due  8 attempts  9 expiry  10 counters
--       11 dead  12 bell  13 one copy of taken, or 4 again where nothing is taken
--       14… for each reply waiting, bell, expiry of its recipient
-- ARGV  1 recipient, as in keys  2 consumer  3 leaseMs  4 maxAttempts  5 maxDeadLetters
--       6 how many deliveries to take, at most 1000; 0 only settles
--       7 name of the feed  8 number of this call  9 number of its first call with this copy whose reply was lost, or 0
--       10 "weighted", or "strict"; behind it a "!" where the recipient has to be registered
--       11 how many first deliveries to acknowledge  12 how many replies there are
--       13… the tickets of the former, then their ids, then the replies: lib/answering.lua,
--       then six for each other outcome: "ack", "retry", "back" or "dead", ticket, fence,
--         for a retry its delay in ms and "1" when it is counted, for a dead letter its reason as JSON and "",
--         number of its reply or ""
-- Reply "UNKNOWN" when nothing was done, as the recipient has lapsed, or is not registered; otherwise
--       1 gone, expired, poisoned, ms until something is ready or -1, 1 when the inbox is paused,
--         1 when items are waiting to be handed out whose publisher is gone, 1 when more is kept of items
--       2 numbers of the outcomes that came too late, in the order of ARGV
--       3 receipts, each on a line: the ticket of a first delivery, otherwise "+<fence>/<attempt>/<ticket>"
--       4 ids of items that were found expired, each on a line
--       5… the record of each delivery; those of the lost reply first
--@ keyspace
--@ slices
--@ clock
--@ tickets
--@ attempts
--@ bell
--@ answers
local inbox = {
  recipient = ARGV[1], expiring = KEYS[3], waiting = KEYS[5], leased = KEYS[6], due = KEYS[7], attempts = KEYS[8],
  expiry = KEYS[9], counters = KEYS[10], dead = KEYS[11], bell = KEYS[12],
}
local taken, consumer = KEYS[13], ARGV[2]
local leaseMs, maxAttempts, max = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[6])
local plain, replies = tonumber(ARGV[11]), tonumber(ARGV[12])
local PLAIN = 13
local REPLIES = PLAIN + 2 * plain
local OTHERS = REPLIES + 6 * replies

local now = nowMs()
local state = redis.call('HMGET', KEYS[2], 'records', 'fanout', 'line', 'ids')
local settings = state[1] and state[1] ~= '' and cjson.decode(state[1])
if inbox.recipient ~= '' then
  local lapsesAt = redis.call('ZSCORE', PREFIX .. 'lapses', inbox.recipient)
  if lapsesAt and tonumber(lapsesAt) <= now or not lapsesAt and string.sub(ARGV[10], -1) == '!' then
    return 'UNKNOWN'
  end
end
local lost, receipts, expiredIds, out = {}, {}, {}, {}
local gone, expired, poisoned = 0, 0, 0
local areAnswers = isForAnswers(inbox.recipient)
local hasAttempts = redis.call('EXISTS', inbox.attempts) == 1

-- Most calls acknowledge first deliveries and take others. What comes to anything else is only made when it is needed.
local function openEndings()
--@ names
--@ line
--@ record
--@ finishing
--@ expiry
--@ settling_items
end
local endings
local function ending()
  endings = endings or openEndings()
  return endings
end
--@ taking_items

for from = PLAIN, PLAIN + plain - 1, SLICE do
  acknowledge(from, math.min(from + SLICE - 1, PLAIN + plain - 1))
end
local number = plain
for i = OTHERS, #ARGV, 6 do
  number = number + 1
  if not ending().settle(i) then
    lost[#lost + 1] = number
  end
end

local isPaused = false
if max > 0 then
  local counters = redis.call('HMGET', inbox.counters, 'unreported', 'gone', 'paused', 'turn', 'level')
  isPaused = counters[3] and true
  if counters[1] or counters[2] then
    redis.call('HDEL', inbox.counters, 'unreported', 'gone')
    expired, gone = expired + (counters[1] or 0), gone + (counters[2] or 0)
  end
  -- Leases that have run out, and what expires.
  local abandoned = redis.call('ZRANGEBYSCORE', inbox.leased, '-inf', now, 'LIMIT', 0, 250)
  if #abandoned > 0 then
    ending().sweep(abandoned)
  end
  if #redis.call('ZRANGEBYSCORE', inbox.expiry, '-inf', now, 'LIMIT', 0, 1) > 0 then
    ending().expire()
  end
  promoteDue()
  if not isPaused then
    take(counters[4], counters[5])
  end
elseif ARGV[9] ~= '0' then
  takeAgain(tonumber(ARGV[9]))
end
if settings then
  ending().trim()
end

out[1] = table.concat({ gone, expired, poisoned, string.format('%.0f', isPaused and -1 or readyIn()),
  isPaused and 1 or 0, state[2] and tonumber(state[2]) <= now and 1 or 0, settings and 1 or 0 }, ' ')
out[2] = table.concat(lost, ' ')
out[3] = table.concat(receipts, '\n')
out[4] = table.concat(expiredIds, '\n', 1, math.min(#expiredIds, SLICE))
return out
