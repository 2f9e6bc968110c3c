#!lua flags=allow-oom
-- Ends what has expired while it waited, and counts what a recipient has.
-- KEYS  1 records  2 state  3 expiring  4 one that never exists  5 waiting  6 leased  7 due  8 attempts  9 expiry  10 counters
--       11 dead
-- ARGV  1 recipient, as in keys  2 where to go on looking for the oldest, or ""
-- Reply 1 "MORE" when it has to be called again, and then with 9; or "OK"
--       2 waiting  3 leased  4 delayed  5 dead  6 expired  7 dropped  8 1 when it is paused
--       9 where to go on looking for the oldest, or ""  10 place of the oldest that was found, or ""
--       11 when that was pushed, in ms, or ""
--@ keyspace
--@ slices
--@ clock
--@ names
--@ tickets
--@ attempts
--@ line
--@ record
local inbox = {
  recipient = ARGV[1], expiring = KEYS[3], waiting = KEYS[5], leased = KEYS[6], due = KEYS[7], attempts = KEYS[8],
  expiry = KEYS[9], counters = KEYS[10],
}
local LEVELS_AT_ONCE = 250

local now = nowMs()
local stored = redis.call('HGET', KEYS[2], 'records')
local settings = stored and stored ~= '' and cjson.decode(stored)
--@ finishing
--@ expiry
--@ promoting
local ids, more = expireWaiting(inbox)
if #ids > 0 then
  redis.call('HINCRBY', inbox.counters, 'unreported', #ids)
end
more = promoteDue() or more

-- The oldest of each priority waits in front; some of them at a time.
local from, oldest = ARGV[2], nil
for _ = 1, LEVELS_AT_ONCE do
  local start = from == '' and '-inf' or '(' .. from
  local first = redis.call('ZRANGEBYSCORE', inbox.waiting, start, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  if #first == 0 then
    from = ''
    break
  end
  if not oldest or isOlder(first[1], oldest) then
    oldest = first[1]
  end
  from = first[2]
end
local place, pushedAt = '', ''
if oldest then
  place = string.sub(oldest, 1, PLACE)
  local record = redis.call('HGET', KEYS[1], idOf(oldest))
  local read = record and readRecord(record)
  pushedAt = read and read.at or timeOfPlace(place) or ''
end
local counters = redis.call('HMGET', inbox.counters, 'expired', 'dropped', 'paused')
return {
  (more or from ~= '') and 'MORE' or 'OK',
  redis.call('ZCARD', inbox.waiting), redis.call('ZCARD', inbox.leased), redis.call('ZCARD', inbox.due),
  redis.call('XLEN', KEYS[11]), tonumber(counters[1] or 0), tonumber(counters[2] or 0), counters[3] and 1 or 0,
  from, place, pushedAt,
}
