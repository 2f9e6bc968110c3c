#!lua
-- Moves dead letters of a group back to the end of its stream, for that group alone, each in one step.
-- KEYS  1 stream  2 dead  3 limits  4 publisher
-- ARGV  1 number of the batch  2 number of the batch it must not overtake, or 0  3 slot for the result
--       4 group  5… ids of letters, at most 1000
-- Reply how many of the ids were looked at, from the first on, and how many letters were moved; GAP or FORGOTTEN
--@ publisher
--@ positions
local stream, dead, group = KEYS[1], KEYS[2], ARGV[4]
-- The call ends when it has moved so much.
local MAX_BYTES = 1000000

local earlier, putOffMs = earlierResult(KEYS[4], tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3])
if earlier then
  return earlier
end

local looked, moved, bytes, last = 0, 0, 0, nil
for i = 5, #ARGV do
  local entry = redis.call('XRANGE', dead, ARGV[i], ARGV[i])[1]
  looked = looked + 1
  if entry then
    local letter = fieldsOf(entry[2])
    if letter.k then
      last = redis.call('XADD', stream, '*', 'm', letter.m, 'k', letter.k, 'g', group)
    else
      last = redis.call('XADD', stream, '*', 'm', letter.m, 'g', group)
    end
    redis.call('XDEL', dead, ARGV[i])
    moved, bytes = moved + 1, bytes + #letter.m
  end
  if bytes >= MAX_BYTES then
    break
  end
end
if last then
  redis.call('HSET', KEYS[3], 'redriven', last)
end
local time = redis.call('TIME')
return remember(KEYS[4], ARGV[1], ARGV[3], looked .. ' ' .. moved, time[1] * 1000, putOffMs)
