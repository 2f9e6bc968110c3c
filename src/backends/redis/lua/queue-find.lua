#!lua flags=allow-oom
-- Finds items and kept records that are in all of some indexes, the newest first.
-- KEYS  1 kept  2… the indexes: zsets of place and id
-- ARGV  1 "open" to leave out kept records, or ""  2 the last one that was found, to go on behind, or ""
--       3 how many to find, or 0 to count them
-- Reply 1 where to go on, or "" at the end
--       2 how many there were, when counting; otherwise 2… places and ids
local LOOKED_AT = 5000
local max = tonumber(ARGV[3])

-- The fewest of which all that are found are part.
local fewest, others, size = KEYS[2], {}, nil
for i = 2, #KEYS do
  local count = redis.call('ZCARD', KEYS[i])
  if not size or count < size then
    fewest, size = KEYS[i], count
  end
end
for i = 2, #KEYS do
  others[#others + 1] = KEYS[i] ~= fewest and KEYS[i] or nil
end

local function select(members)
  for _, key in ipairs(others) do
    local left = {}
    for i, score in ipairs(#members > 0 and redis.call('ZMSCORE', key, unpack(members)) or {}) do
      left[#left + 1] = score and members[i] or nil
    end
    members = left
  end
  if ARGV[1] == 'open' and #members > 0 then
    local left = {}
    for i, score in ipairs(redis.call('ZMSCORE', KEYS[1], unpack(members))) do
      left[#left + 1] = not score and members[i] or nil
    end
    members = left
  end
  return members
end

local from, found, looked = ARGV[2], {}, 0
while looked < LOOKED_AT do
  local start = from == '' and '+' or '(' .. from
  local page = redis.call('ZRANGE', fewest, start, '-', 'BYLEX', 'REV', 'LIMIT', 0, 1000)
  looked = looked + #page
  from = #page == 1000 and page[#page] or ''
  for _, member in ipairs(select(page)) do
    found[#found + 1] = member
    if #found == max then
      -- There may be no more: whoever goes on finds out.
      from = member
      break
    end
  end
  if from == '' or #found == max then
    break
  end
end
if max == 0 then
  return { from, #found }
end
return { from, unpack(found) }
