#!lua flags=allow-oom
-- Forgets that a holder has members in a group, unless it has joined again meanwhile.
-- KEYS  1 groups
-- ARGV  1 group  2 number of the call that left nobody there
-- Reply 1 when it was forgotten
local number = redis.call('ZSCORE', KEYS[1], ARGV[1])
if number and tonumber(number) <= tonumber(ARGV[2]) then
  return redis.call('ZREM', KEYS[1], ARGV[1])
end
return 0
