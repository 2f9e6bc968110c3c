#!lua flags=allow-oom
-- Makes a group where it does not exist, or makes it anew after it was lost.
-- KEYS  1 stream  2 groups  3 attempts  4 due  5 parked  6 dropped  7 sweep
-- ARGV  1 group  2 its settings as JSON  3 "create" or "restore"
--       4 where it starts: "beginning", "new", or the last position it has no interest in
--       5 "1" when that position is a time, which may lie in the future
--       6 position up to which entries were counted, or ""  7 how many were counted
-- Reply 1 "done" or "lost" (its settings were there and the group was not), 2 the settings stored;
--       or 1 "count", 2 and 3 the values of ARGV 6 and 7 to go on with
--@ positions
local stream, groups, group = KEYS[1], KEYS[2], ARGV[1]
local SLICE = 1000

local function exists()
  if redis.call('EXISTS', stream) == 0 then
    return false
  end
  for _, flat in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
    if fieldsOf(flat).name == group then
      return true
    end
  end
  return false
end

local stored = redis.call('HGET', groups, group)
if exists() then
  if not stored then
    redis.call('HSET', groups, group, ARGV[2])
  end
  return { 'done', stored or ARGV[2] }
end

local lost = stored or ARGV[3] == 'restore'
local from = lost and 'beginning' or ARGV[4]
local added, length, last = 0, 0, '0-0'
if redis.call('EXISTS', stream) == 1 then
  local info = fieldsOf(redis.call('XINFO', 'STREAM', stream))
  added, length, last = info['entries-added'], info.length, info['last-generated-id']
end

local start, read
if from == 'beginning' then
  start, read = '0-0', added - length
elseif ARGV[5] == '1' and partsOf(from) >= tonumber(redis.call('TIME')[1]) * 1000 and not isBefore(from, last) then
  -- What is appended until then is not for this group, and what it will be is not known.
  start = from
elseif from == 'new' or not isBefore(from, last) then
  start, read = last, added
else
  -- How many entries are before the start has to be counted, or the group's lag would never be known.
  local after = ARGV[6] == '' and from or ARGV[6]
  local slice = redis.call('XRANGE', stream, '(' .. after, '+', 'COUNT', SLICE)
  local counted = tonumber(ARGV[7]) + #slice
  if #slice == SLICE then
    return { 'count', slice[SLICE][1], tostring(counted) }
  end
  start, read = from, math.max(0, added - counted)
end

-- What an earlier group of the name left behind would fence off the deliveries of this one, and hold its stream back.
for from = 0, redis.call('ZCARD', KEYS[4]) - 1, SLICE do
  local members = {}
  for i, position in ipairs(redis.call('ZRANGE', KEYS[4], from, from + SLICE - 1)) do
    members[i] = position .. ' ' .. group
  end
  redis.call('ZREM', KEYS[5], unpack(members))
end
redis.call('DEL', KEYS[3], KEYS[4], KEYS[7])
redis.call('HDEL', KEYS[6], group)
if read then
  redis.call('XGROUP', 'CREATE', stream, group, start, 'MKSTREAM', 'ENTRIESREAD', read)
else
  redis.call('XGROUP', 'CREATE', stream, group, start, 'MKSTREAM')
end
if not stored then
  redis.call('HSET', groups, group, ARGV[2])
end
return { lost and 'lost' or 'done', stored or ARGV[2] }
