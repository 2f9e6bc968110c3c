#!lua flags=allow-oom
-- Removes a group and all that belongs to it.
-- KEYS  1 stream  2 groups  3 attempts  4 due  5 parked  6 dropped  7 sweep  8 busy  9 held  10 paused  11 deleted
--       12 limits  13 dead
-- ARGV  1 group
-- Reply 1, or 0 when there is no such group
--@ positions
--@ turns
--@ group
local keys = {
  stream = KEYS[1], groups = KEYS[2], attempts = KEYS[3], due = KEYS[4], parked = KEYS[5], dropped = KEYS[6],
  sweep = KEYS[7], busy = KEYS[8], held = KEYS[9], paused = KEYS[10], deleted = KEYS[11],
}
local group = ARGV[1]
-- Deletions that are remembered, so that consumers that are still open do not take the group for lost.
local MAX_DELETED = 1000

local exists = groupFields(keys, group) ~= nil
if not exists and redis.call('HGET', keys.groups, group) == false then
  return 0
end
local time = redis.call('TIME')
redis.call('HSET', keys.deleted, group, string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)))
if redis.call('HLEN', keys.deleted) > MAX_DELETED then
  local oldest, oldestAt
  local all = redis.call('HGETALL', keys.deleted)
  for i = 1, #all, 2 do
    local at = tonumber(all[i + 1])
    if not oldest or at < oldestAt then
      oldest, oldestAt = all[i], at
    end
  end
  redis.call('HDEL', keys.deleted, oldest)
end
forgetUnfinished(keys, group)
redis.call('UNLINK', keys.sweep, KEYS[13])
for _, hash in ipairs({ keys.groups, keys.dropped, keys.paused }) do
  redis.call('HDEL', hash, group)
end
if exists then
  redis.call('XGROUP', 'DESTROY', keys.stream, group)
end
return 1
