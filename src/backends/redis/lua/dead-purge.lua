#!lua flags=allow-oom
-- Forgets dead letters that were parked some time ago, a slice of them.
-- KEYS  1 dead
-- ARGV  1 how long ago at least, in ms
-- Reply 1 how many there were  2 "1" when there may be more
local AT_ONCE = 5000
local time = redis.call('TIME')
local before = time[1] * 1000 + math.floor(time[2] / 1000) - ARGV[1] + 1
if before <= 0 then
  return { 0, 0 }
end
before = string.format('%.0f', before)
-- Whole nodes first, as many as one call may take; what is left then is less than one.
local freed = redis.call('XTRIM', KEYS[1], 'MINID', '~', before, 'LIMIT', AT_ONCE)
if freed > 0 then
  return { freed, 1 }
end
return { redis.call('XTRIM', KEYS[1], 'MINID', '=', before), 0 }
