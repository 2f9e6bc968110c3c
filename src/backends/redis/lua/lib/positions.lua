-- Positions are the ids of stream entries: "<milliseconds>-<sequence>".
local function partsOf(position)
  local ms, sequence = string.match(position, '^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(sequence)
end

local function isBefore(a, b)
  local aMs, aSequence = partsOf(a)
  local bMs, bSequence = partsOf(b)
  return aMs < bMs or (aMs == bMs and aSequence < bSequence)
end

-- A reply that alternates names and values, as a table.
local function fieldsOf(flat)
  local fields = {}
  for i = 1, #flat, 2 do
    fields[flat[i]] = flat[i + 1]
  end
  return fields
end
