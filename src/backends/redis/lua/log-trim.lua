#!lua flags=allow-oom
-- Drops a slice of what is older than the stored `maxAgeMs`.
-- KEYS  1 stream  2 parked  3 dropped  4 limits  5 paused
-- ARGV  1 how many entries at most
-- Reply 1 how many entries were dropped  2 "1" when there may be more
--@ positions
--@ entries
--@ room
local text = redis.call('HGET', KEYS[4], 'retention')
local retention = text and cjson.decode(text)
if not retention or not retention.maxAgeMs or redis.call('XLEN', KEYS[1]) == 0 then
  return { 0, 0 }
end
local keys = { stream = KEYS[1], parked = KEYS[2], dropped = KEYS[3], limits = KEYS[4], paused = KEYS[5] }
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local mayLose = retention.overflow == 'drop-oldest'
local freed, more = dropAged(keys, now - retention.maxAgeMs, mayLose, tonumber(ARGV[1]))
return { freed, more and 1 or 0 }
