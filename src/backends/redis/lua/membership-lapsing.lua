#!lua flags=allow-oom
-- Names holders whose lease is over, the oldest first, or ends later than any can, since the clock was set back.
-- KEYS  1 leases
-- ARGV  1 how many at most  2 the longest lease, in ms
-- Reply their names
--@ holders
local now, max = nowMs(), tonumber(ARGV[1])
local names = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', whole(now), 'LIMIT', 0, max)
local beyond = '(' .. whole(now + ARGV[2])
for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], beyond, '+inf', 'LIMIT', 0, max - #names)) do
  names[#names + 1] = name
end
return names
