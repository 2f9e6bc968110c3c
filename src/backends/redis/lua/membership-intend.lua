#!lua
-- Notes that a holder is about to join a group, so that whoever reaps it looks there.
-- KEYS  1 lease  2 groups
-- ARGV  1 group  2 number of the call
-- Reply 1, or 0 when the lease is over
local ends = redis.call('HGET', KEYS[1], 'end')
if not ends or ends == '0' then
  return 0
end
redis.call('ZADD', KEYS[2], ARGV[2], ARGV[1])
return 1
