#!lua flags=allow-oom
-- The part of clearing a queue that is about no single recipient, a slice at a time.
-- KEYS  1 records  2 state  3 one that never exists  4 ids  5 ids of the other generation
-- ARGV  1 name of the recipient to go on behind, as in keys, or ""
-- Reply 1 how many items and kept records there are  2 1 when it has to be called again for records
--       3… names of recipients that may have items, as in keys; less than 100 of them when these are the last
--@ keyspace
--@ slices
--@ clock
--@ names
--@ tickets
--@ line
--@ record
local NAMES_AT_ONCE = 100
local RECORDS_AT_ONCE = 500

local now = nowMs()
local stored = redis.call('HGET', KEYS[2], 'records')
local settings = stored and stored ~= '' and cjson.decode(stored)
--@ finishing
--@ fanning
local answers = redis.call('HGET', KEYS[2], 'answers') or 0
local count = redis.call('HLEN', KEYS[1]) - answers + redis.call('ZCARD', PREFIX .. 'kept')

-- What is still being handed out is handed out no further.
for _, name in ipairs(intents()) do
  endIntent(KEYS[2], name, readIntent(name), readBatch(name))
end
redis.call('UNLINK', KEYS[4], KEYS[5])
redis.call('HDEL', KEYS[2], 'ids')
local kept = redis.call('ZRANGE', PREFIX .. 'kept', 0, RECORDS_AT_ONCE - 1)
if records then
  records.forgetKept(kept)
end
local start = ARGV[1] == '' and '-' or '(' .. ARGV[1]
local names = redis.call('ZRANGE', PREFIX .. 'inboxes', start, '+', 'BYLEX', 'LIMIT', 0, NAMES_AT_ONCE)
return { count, #kept == RECORDS_AT_ONCE and 1 or 0, unpack(names) }
