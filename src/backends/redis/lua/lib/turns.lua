-- Order by key: which keys of a group are busy, and which entries wait in line for each. Needs `positions`.
-- `keys`: stream, parked, busy, held. `busy` holds both directions: "k<key>" to the position that the key is busy with, and
-- a "+" when something may wait behind it; "p<position>" to its key. `held` has "!<place>" for those whose turn it is, and
-- "<length>:<key>:<place>" for those that wait, so that the next of a key is found without looking at any other.

-- A value so long makes Redis keep `busy` as a hash table: in the list that small hashes are, each look-up goes through all.
local LONG = string.rep('-', 100)

-- A position that sorts as text.
local function placeOf(position)
  local ms, sequence = string.match(position, '^(%d+)-(%d+)$')
  return string.rep('0', 20 - #ms) .. ms .. '-' .. string.rep('0', 20 - #sequence) .. sequence
end

-- The position of a member of `held`, which ends in its place.
local function positionOf(member)
  local ms, sequence = string.match(string.sub(member, -41), '^0*(%d+)%-0*(%d+)$')
  return ms .. '-' .. sequence
end

local function lineOf(key)
  return #key .. ':' .. key .. ':'
end

-- What an entry is in order with; nil when it has no order.
local function keyOf(fields, order)
  if order == 'strict' then
    return ''
  end
  return order == 'key' and fields[1] == 'm' and fields[3] == 'k' and fields[4] or nil
end

local function flatten(fields)
  local flat = {}
  for field, value in pairs(fields) do
    flat[#flat + 1] = field
    flat[#flat + 1] = value
  end
  return flat
end

local function holdBack(keys, group, members, positions)
  local held, parked = {}, {}
  for i, position in ipairs(positions) do
    held[2 * i - 1], held[2 * i] = 0, members[i]
    parked[2 * i - 1], parked[2 * i] = string.match(position, '^%d+'), position .. ' ' .. group
  end
  redis.call('XACK', keys.stream, group, unpack(positions))
  redis.call('ZADD', keys.held, unpack(held))
  redis.call('ZADD', keys.parked, unpack(parked))
end

-- Which of these pending entries, oldest first, have their turn: their keys are busy with them from now on. The others are
-- held back, and pending no more. Returns the first kind, and the second as a set of positions. At most 1,000 at a time.
local function admit(keys, group, order, entries)
  local fields, keyed = {}, {}
  for _, entry in ipairs(entries) do
    local key = keyOf(entry[2], order)
    if key then
      keyed[entry[1]] = key
      fields[#fields + 1] = 'k' .. key
    end
  end
  if #fields == 0 then
    return entries, {}
  end
  local holders, changes = {}, {}
  fields[#fields + 1] = '#'
  for i, holder in ipairs(redis.call('HMGET', keys.busy, unpack(fields))) do
    holders[fields[i]] = holder
  end
  changes['#'] = not holders['#'] and LONG or nil
  local admitted, waiting, members, isHeld = {}, {}, {}, {}
  for _, entry in ipairs(entries) do
    local position, key = entry[1], keyed[entry[1]]
    local field = key and 'k' .. key
    local holder = field and holders[field]
    if not key then
      admitted[#admitted + 1] = entry
    elseif not holder then
      admitted[#admitted + 1] = entry
      holders[field], changes[field], changes['p' .. position] = position, position, key
    elseif holder == position or holder == position .. '+' then
      admitted[#admitted + 1] = entry
    else
      waiting[#waiting + 1], members[#members + 1] = position, lineOf(key) .. placeOf(position)
      isHeld[position] = true
      if string.sub(holder, -1) ~= '+' then
        holders[field], changes[field] = holder .. '+', holder .. '+'
      end
    end
  end
  if next(changes) then
    redis.call('HSET', keys.busy, unpack(flatten(changes)))
  end
  if #waiting > 0 then
    holdBack(keys, group, members, waiting)
  end
  return admitted, isHeld
end

-- These deliveries have ended: it is the turn of the next of each of their keys. At most 1,000 at a time.
local function passOn(keys, positions)
  local own, lines, ended, held = {}, {}, {}, {}
  for i, position in ipairs(positions) do
    own[i] = 'p' .. position
  end
  for i, key in ipairs(redis.call('HMGET', keys.busy, unpack(own))) do
    if key then
      lines[#lines + 1], held[#held + 1], ended[#ended + 1] = 'k' .. key, positions[i], own[i]
    end
  end
  if #lines == 0 then
    return
  end
  local changes, removed, free = {}, {}, {}
  for i, holder in ipairs(redis.call('HMGET', keys.busy, unpack(lines))) do
    local isBehind = holder == held[i] .. '+'
    local line = isBehind and lineOf(string.sub(lines[i], 2))
    -- The one behind the next tells whether more wait.
    local after = line and redis.call('ZRANGEBYLEX', keys.held, '[' .. line, '(' .. string.sub(line, 1, -2) .. ';', 'LIMIT', 0, 2)
    if after and after[1] then
      local position = positionOf(after[1])
      changes[lines[i]] = after[2] and position .. '+' or position
      changes['p' .. position] = string.sub(lines[i], 2)
      removed[#removed + 1] = after[1]
      free[#free + 1] = 0
      free[#free + 1] = '!' .. placeOf(position)
    elseif isBehind or holder == held[i] then
      ended[#ended + 1] = lines[i]
    end
  end
  redis.call('HDEL', keys.busy, unpack(ended))
  if #removed > 0 then
    redis.call('HSET', keys.busy, unpack(flatten(changes)))
    redis.call('ZREM', keys.held, unpack(removed))
    redis.call('ZADD', keys.held, unpack(free))
  end
end
