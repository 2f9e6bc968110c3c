#!lua flags=allow-oom
-- Begins a holder's lease, or renews one that is not over.
-- KEYS  1 lease
-- ARGV  1 leaseMs  2 "begin" or "renew"
-- Reply when it ends, in ms since the epoch, or 0 when it is over
--@ holders
local now = nowMs()
if ARGV[2] == 'renew' and tonumber(redis.call('HGET', KEYS[1], 'end') or 0) == 0 then
  return '0'
end
local ends = whole(now + ARGV[1])
redis.call('HSET', KEYS[1], 'end', ends, 'renewed', whole(now))
redis.call('PEXPIRE', KEYS[1], LEASE_KEPT_MS)
return ends
