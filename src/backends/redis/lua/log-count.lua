#!lua flags=allow-oom
-- Counts the entries behind the cursors of groups, for about a millisecond.
-- KEYS  1 stream
-- ARGV  1 position behind which to go on  2 the last position to count  3… name and cursor of each group, by their cursors
-- Reply 1 the last position looked at, or "" when that is all
--       2… for each group how many of these entries are behind its cursor, and how many of those are for another group
--@ positions
--@ entries
local PAGE = 20
-- What a millisecond is enough for.
local MAX_ENTRIES, MAX_BYTES = 800, 500000
local after, last = ARGV[1], ARGV[2]
local groups = (#ARGV - 2) / 2
-- What is behind so many of the cursors, and no more.
local behind, redriven = {}, {}
-- By group: its number, and what was redriven for it behind its cursor.
local numbers, own = {}, {}
for i = 0, groups do
  behind[i], redriven[i], own[i] = 0, 0, 0
  numbers[ARGV[2 * i + 1]] = i > 0 and i or nil
end

local passed, done = 0, false
local entries, bytes = 0, 0
repeat
  local page = redis.call('XRANGE', KEYS[1], '(' .. after, last, 'COUNT', PAGE)
  for _, entry in ipairs(page) do
    after = entry[1]
    bytes = bytes + #entry[2][2]
    while passed < groups and isBefore(ARGV[2 * passed + 4], after) do
      passed = passed + 1
    end
    behind[passed] = behind[passed] + 1
    local group = groupOf(entry[2])
    if group then
      redriven[passed] = redriven[passed] + 1
      local number = numbers[group]
      if number and number <= passed then
        own[number] = own[number] + 1
      end
    end
  end
  entries, done = entries + #page, #page < PAGE
until done or entries >= MAX_ENTRIES or bytes >= MAX_BYTES

local out = {}
local total, foreign = 0, 0
for i = groups, 1, -1 do
  total, foreign = total + behind[i], foreign + redriven[i]
  out[2 * i], out[2 * i + 1] = total, foreign - own[i]
end
out[1] = done and '' or after
return out
