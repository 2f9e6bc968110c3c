-- The part of log-take.lua that reads for a group with order.

-- How many entries may be read at once: each of them may have to be held back.
local function mayRead()
  if order == 'strict' then
    return redis.call('HEXISTS', keys.busy, 'k') == 0 and 1 or 0
  end
  local maxHeld = settings() and settings().maxHeld or 1000
  return math.min(max - #receipts, maxHeld - redis.call('ZCARD', keys.held))
end

-- The position behind which there is nothing yet.
local function cursor()
  for _, flat in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
    local fields = fieldsOf(flat)
    if fields.name == group then
      return fields['last-delivered-id']
    end
  end
end

local function takeInOrder()
  local looked = 0
  while #receipts < max and looked < LOOKED_AT do
    local count = mayRead()
    if count <= 0 then
      waitBehind = 'later'
      return
    end
    local entries = readNew(count)
    if #entries == 0 then
      waitBehind = missing == 0 and not isPaused() and cursor() or 'later'
      return
    end
    for _, entry in ipairs((mine(entries))) do
      receipts[#receipts + 1] = entry[1]
      out[#receipts + 4] = blobOf(entry[2])
    end
    looked, waitBehind = looked + #entries, entries[#entries][1]
  end
end
