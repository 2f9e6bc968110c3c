#!lua flags=allow-oom
-- Pauses or resumes what a recipient is handed.
-- KEYS  1 counters  2 bell
-- ARGV  1 "pause", or "resume"
-- Reply nothing
--@ bell
if ARGV[1] == 'pause' then
  redis.call('HSET', KEYS[1], 'paused', '1')
elseif redis.call('HDEL', KEYS[1], 'paused') == 1 then
  ring(KEYS[2])
end
return 0
