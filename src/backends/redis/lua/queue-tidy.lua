#!lua flags=allow-oom
-- Ends what has expired in a queue and nobody has found yet, and forgets records that are too old: a slice of both.
-- KEYS  1 records  2 state  3 expiring  4 one that never exists
-- ARGV  1 how many of the recipients that have lapsed to tell
-- Reply 1 how many items were ended  2 1 when there may be more of either  3… recipients that have lapsed, as in keys
--@ keyspace
--@ slices
--@ inboxes
--@ clock
--@ names
--@ tickets
--@ attempts
--@ line
--@ record
local RECIPIENTS_AT_ONCE = 50
local ITEMS_AT_ONCE = 1000

local now = nowMs()
local stored = redis.call('HGET', KEYS[2], 'records')
local settings = stored and stored ~= '' and cjson.decode(stored)
--@ finishing
--@ expiry
local ended, more = 0, false
local names = redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now, 'LIMIT', 0, RECIPIENTS_AT_ONCE)
for _, name in ipairs(names) do
  if ended >= ITEMS_AT_ONCE then
    more = true
    break
  end
  local inbox = inboxOf(encodeName(name))
  local ids, isMore = expireWaiting(inbox)
  if #ids > 0 then
    redis.call('HINCRBY', inbox.counters, 'unreported', #ids)
  else
    -- What was noted is true no more.
    noteSoonest(inbox)
  end
  ended, more = ended + #ids, more or isMore
end
more = more or #names == RECIPIENTS_AT_ONCE
if records and records.keepsThem then
  local _, isMore = records.trim()
  more = more or isMore
end
local lapsed = redis.call('ZRANGEBYSCORE', PREFIX .. 'lapses', '-inf', now, 'LIMIT', 0, ARGV[1])
return { ended, more and 1 or 0, unpack(lapsed) }
