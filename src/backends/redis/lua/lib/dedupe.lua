-- Ids that the stream remembers, in two generations. A part of `log-append`.

-- Most words that one command is given.
local SLICE = 1000

-- The number of each entry that is a duplicate, to the earlier position, or to the number of the entry of this batch
-- that has its id; how many there are; and the numbers of the new entries that have an id.
local function findDuplicates()
  local duplicates, found = {}, 0
  local ids, numbers, firstOf = {}, {}, {}
  for i = FIRST, #ARGV, stride do
    local entry = (i - FIRST) / stride + 1
    local id = ARGV[i + stride - 1]
    if id ~= '' and firstOf[id] then
      duplicates[entry], found = firstOf[id], found + 1
    elseif id ~= '' then
      firstOf[id] = entry
      ids[#ids + 1], numbers[#numbers + 1] = string.sub(id, 2), entry
    end
  end
  for generation = 7, 8 do
    for from = 1, #ids, SLICE do
      local positions = redis.call('HMGET', KEYS[generation], unpack(ids, from, math.min(from + SLICE - 1, #ids)))
      for i, position in ipairs(positions) do
        local entry = numbers[from + i - 1]
        if position and not duplicates[entry] then
          duplicates[entry], found = position, found + 1
        end
      end
    end
  end
  local new = {}
  for _, entry in ipairs(numbers) do
    new[#new + 1] = not duplicates[entry] and entry or nil
  end
  return duplicates, found, new
end

-- Remembers the ids of new entries, in the present generation, or in a new one when that is full or old.
local function rememberIds(new, positions)
  local which, began = string.match(limits[3] or '0 0', '^(%d) (%d+)$')
  local held = redis.call('HLEN', KEYS[7 + which])
  local starts = held == 0
  if not starts and (held + #new > tonumber(ARGV[8]) or now() - began >= tonumber(ARGV[9])) then
    which, starts = 1 - which, true
    redis.call('UNLINK', KEYS[7 + which])
  end
  for from = 1, #new, SLICE / 2 do
    local words = {}
    for i = from, math.min(from + SLICE / 2 - 1, #new) do
      words[#words + 1] = string.sub(ARGV[FIRST + new[i] * stride - 1], 2)
      words[#words + 1] = positions[new[i]]
    end
    redis.call('HSET', KEYS[7 + which], unpack(words))
  end
  if starts then
    -- It takes ids for as long as it lasts, and the last of them is to be remembered as long again.
    redis.call('PEXPIRE', KEYS[7 + which], 2 * ARGV[9])
    redis.call('HSET', KEYS[5], 'ids', which .. ' ' .. string.format('%.0f', now()))
  end
end
