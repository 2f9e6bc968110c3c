#!lua
-- Puts dead letters of a recipient back in line, each in one step, unless the queue holds an item of that id.
-- KEYS  1 records  2 line  3 dead  4 waiting  5 bell  6 publisher
-- ARGV  1 number of the batch  2 number of the batch it must not overtake, or 0  3 slot for the result
--       4… ids of letters, at most 1000
-- Reply how many of the ids were looked at, from the first on, how many letters were moved, and how many were not because
--         of an item; GAP or FORGOTTEN
--@ publisher
--@ positions
--@ tickets
--@ line
local records, dead, waiting, bell = KEYS[1], KEYS[3], KEYS[4], KEYS[5]
-- The call ends when it has moved so much.
local MAX_BYTES = 1000000

local earlier, putOffMs = earlierResult(KEYS[6], tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3])
if earlier then
  return earlier
end

local looked, moved, held, bytes, place = 0, 0, 0, 0, nil
for i = 4, #ARGV do
  local entry = redis.call('XRANGE', dead, ARGV[i], ARGV[i])[1]
  looked = looked + 1
  local letter = entry and fieldsOf(entry[2])
  if letter and redis.call('HSETNX', records, letter.p, letter.m) == 0 then
    held = held + 1
  elseif letter then
    place = place or nextPlace(KEYS[2])
    -- Letters of earlier builds do not know their priority.
    local ticket = place .. toBase36(moved, 3) .. '|' .. (letter.pr or '0') .. '|' .. letter.p
    redis.call('ZADD', waiting, scoreOf(ticket), ticket)
    redis.call('XDEL', dead, ARGV[i])
    moved, bytes = moved + 1, bytes + #letter.m
  end
  if bytes >= MAX_BYTES then
    break
  end
end
if moved > 0 and redis.call('ZADD', bell, 0, '1') == 1 then
  -- Whoever waits looks every second anyway: a bell that nobody hears need not stay.
  redis.call('PEXPIRE', bell, 60000)
end
local result = table.concat({ looked, moved, held }, ' ')
return remember(KEYS[6], ARGV[1], ARGV[3], result, nowMs(), putOffMs)
