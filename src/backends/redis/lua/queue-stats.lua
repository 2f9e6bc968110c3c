#!lua flags=allow-oom
-- Ends what has expired while it waited, and counts what a recipient has.
-- KEYS  1 records  2 waiting  3 leased  4 due  5 attempts  6 expiry  7 counters  8 expiring  9 dead
-- ARGV  1 recipient
-- Reply waiting, leased, delayed, dead, expired, 1 when more has expired
--@ tickets
--@ expiry
local keys = {
  records = KEYS[1], waiting = KEYS[2], leased = KEYS[3], due = KEYS[4],
  attempts = KEYS[5], expiry = KEYS[6], counters = KEYS[7], expiring = KEYS[8],
}
local now = nowMs()
local more = true
for _ = 1, 4 do
  local ended
  ended, more = expireWaiting(keys, ARGV[1], now)
  if ended > 0 then
    redis.call('HINCRBY', keys.counters, 'unreported', ended)
  end
  if not more then
    break
  end
end
local ready = redis.call('ZCOUNT', keys.due, '-inf', now)
return {
  redis.call('ZCARD', keys.waiting) + ready,
  redis.call('ZCARD', keys.leased),
  redis.call('ZCARD', keys.due) - ready,
  redis.call('XLEN', KEYS[9]),
  tonumber(redis.call('HGET', keys.counters, 'expired') or 0),
  more and 1 or 0,
}
