#!lua flags=allow-oom
-- A feed is open no more: until now somebody has read.
-- KEYS  1 online  2 listeners of the recipient  3 lapses  4 registrations
-- ARGV  1 recipient, as in keys  2 name of the feed
-- Reply nothing
--@ clock
redis.call('ZREM', KEYS[2], ARGV[2])
local last = redis.call('ZRANGE', KEYS[2], 0, 0, 'REV', 'WITHSCORES')[2]
if last then
  redis.call('ZADD', KEYS[1], 'XX', last, ARGV[1])
else
  redis.call('ZREM', KEYS[1], ARGV[1])
end
local now, lapsesAt, ttlMs = nowMs(), redis.call('ZSCORE', KEYS[3], ARGV[1]), redis.call('HGET', KEYS[4], ARGV[1])
if ttlMs and lapsesAt and tonumber(lapsesAt) > now then
  redis.call('ZADD', KEYS[3], string.format('%.0f', now + ttlMs), ARGV[1])
end
return 0
