#!lua flags=allow-oom
-- Stores how long a stream may grow, unless others have stored something else meanwhile.
-- KEYS  1 limits
-- ARGV  1 what is believed to be stored, as JSON, or "" for nothing  2 what to store
-- Reply 1, or 0 when something else is stored
if (redis.call('HGET', KEYS[1], 'retention') or '') ~= ARGV[1] then
  return 0
end
redis.call('HSET', KEYS[1], 'retention', ARGV[2])
return 1
