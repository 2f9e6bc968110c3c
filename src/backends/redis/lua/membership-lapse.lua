#!lua flags=allow-oom
-- Ends a holder whose lease is over, or ends it now, for good; says where it has members.
-- KEYS  1 lease  2 groups
-- ARGV  1 "due" or "now"  2 the longest lease, in ms  3 how many groups at most
-- Reply 1 when the lease ends, where it holds; "over"; or "unknown", when there is none
--       2 when the holder was seen last  3… names of groups
--@ holders
local state = redis.call('HMGET', KEYS[1], 'end', 'renewed')
local now = nowMs()
local ends, seen = tonumber(state[1] or 0), state[2] or whole(now)
if ARGV[1] == 'due' and ends > now and ends <= now + ARGV[2] then
  return { whole(ends) }
end
if ends > 0 then
  seen = ARGV[1] == 'now' and whole(now) or seen
  redis.call('HSET', KEYS[1], 'end', '0', 'renewed', seen)
end
return { state[1] and 'over' or 'unknown', seen, unpack(redis.call('ZRANGE', KEYS[2], 0, ARGV[3] - 1)) }
