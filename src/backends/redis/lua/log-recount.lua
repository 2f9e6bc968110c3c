#!lua flags=allow-oom
-- Corrects what Redis believes that groups have had, after somebody removed entries: it only counts what it delivers.
-- KEYS  1 stream  2 dropped  3 limits  4 paused
-- ARGV  1 entries removed without the groups' knowledge when they were counted, then for each group
--       2… its name, cursor and own count as they were then, "" where there was none, and how many it has had
-- Reply "1" when all groups were as they had been
--@ positions
--@ entries
--@ room
local keys = { stream = KEYS[1], dropped = KEYS[2], limits = KEYS[3], paused = KEYS[4] }
if redis.call('EXISTS', keys.stream) == 0 then
  return 0
end
local info, groups = fieldsOf(redis.call('XINFO', 'STREAM', keys.stream)), groupsOf(keys)
local unknown = info['entries-added'] - info.length - (redis.call('HGET', keys.limits, 'removed') or 0)
if unknown ~= tonumber(ARGV[1]) then
  return 0
end
local all = 1
for i = 2, #ARGV, 4 do
  local name, had = ARGV[i], tonumber(ARGV[i + 3])
  local group = groups[name]
  local read = group and group['entries-read']
  if not group or group['last-delivered-id'] ~= ARGV[i + 1] or (read or nil) ~= tonumber(ARGV[i + 2]) then
    all = 0
  elseif read ~= had then
    if read and read < had then
      redis.call('HINCRBY', keys.dropped, name, had - read)
    end
    setRead(keys, name, group, had)
  end
end
if all == 1 and unknown ~= 0 then
  redis.call('HINCRBY', keys.limits, 'removed', unknown)
end
return all
