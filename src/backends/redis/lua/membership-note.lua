#!lua flags=allow-oom
-- Notes when a holder's lease ends, so that it is found then.
-- KEYS  1 leases
-- ARGV  1 holder  2 when, in ms since the epoch; 0 at once  3 "XX" to change only what is noted already, or ""
-- Reply 1
if ARGV[3] == 'XX' then
  redis.call('ZADD', KEYS[1], 'XX', ARGV[2], ARGV[1])
else
  redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
end
return 1
