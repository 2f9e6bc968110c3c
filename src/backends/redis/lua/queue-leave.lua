#!lua flags=allow-oom
-- A feed is open no more.
-- KEYS  1 online  2 listeners of the recipient
-- ARGV  1 recipient, as in keys  2 name of the feed
-- Reply nothing
redis.call('ZREM', KEYS[2], ARGV[2])
local last = redis.call('ZRANGE', KEYS[2], 0, 0, 'REV', 'WITHSCORES')[2]
if last then
  redis.call('ZADD', KEYS[1], 'XX', last, ARGV[1])
else
  redis.call('ZREM', KEYS[1], ARGV[1])
end
return 0
