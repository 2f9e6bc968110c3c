#!lua flags=allow-oom
-- Stores what is kept of a queue's items, where the queue holds neither items nor records.
-- KEYS  1 records  2 state  3 kept
-- ARGV  1 what to keep, as JSON, or "" for nothing
-- Reply what is stored
local answers = redis.call('HGET', KEYS[2], 'answers') or 0
local isEmpty = redis.call('HLEN', KEYS[1]) - answers + redis.call('ZCARD', KEYS[3]) == 0
if isEmpty then
  redis.call('HSET', KEYS[2], 'records', ARGV[1])
end
return redis.call('HGET', KEYS[2], 'records') or ''
