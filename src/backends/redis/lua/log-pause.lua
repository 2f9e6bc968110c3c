#!lua flags=allow-oom
-- Pauses a group, or resumes it. A paused one stands behind all positions there can be, so that nothing is new to it.
-- KEYS  1 stream  2 groups  3 paused
-- ARGV  1 group  2 "pause" or "resume"
-- Reply 1, or 0 when there is no such group
--@ positions
--@ turns
--@ group
local keys = { stream = KEYS[1], groups = KEYS[2], paused = KEYS[3] }
local group = ARGV[1]
if not redis.call('HGET', keys.groups, group) then
  return 0
end
local fields = groupFields(keys, group)
local cursor = redis.call('HGET', keys.paused, group)
if ARGV[2] == 'pause' and not cursor then
  -- One that was lost starts at the beginning when it is restored.
  local position, read = fields and fields['last-delivered-id'] or '0-0', fields and fields['entries-read'] or nil
  redis.call('HSET', keys.paused, group, '')
  if fields then
    setCursor(keys, group, position, read, false)
  else
    redis.call('HSET', keys.paused, group, position .. ' ')
  end
elseif ARGV[2] == 'resume' and cursor then
  redis.call('HDEL', keys.paused, group)
  if fields then
    local position, read = string.match(cursor, '^(%S+) ?(%d*)$')
    setCursor(keys, group, position, tonumber(read), false)
    wakeConsumers(keys)
  end
end
return 1
