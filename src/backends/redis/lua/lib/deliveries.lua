-- What is known of a delivery: the hash of attempts has "<fence> <attempt>" of those beyond their first, and behind that
-- when an attempt first failed, if one did. The fence grows with each delivery, from the group's base on.
local function stateOf(text, base)
  if not text then
    return tonumber(base), 1, nil
  end
  local fence, attempt, failedAt = string.match(text, '^(%d+) (%d+) ?(%d*)$')
  return tonumber(fence), tonumber(attempt), failedAt ~= '' and failedAt or nil
end

local function stateText(fence, attempt, failedAt)
  local text = string.format('%.0f %d', fence, attempt)
  return failedAt and text .. ' ' .. failedAt or text
end

-- The receipt of a delivery, by what is known of it: without fence and attempt for a first one.
local function receiptOf(position, text)
  if not text then
    return position
  end
  return position .. '/' .. string.gsub(string.match(text, '^%d+ %d+'), ' ', '/')
end

-- The message of an entry. What somebody else wrote has its fields as JSON.
local function blobOf(fields)
  return fields[1] == 'm' and fields[2] or '\n' .. cjson.encode(fields)
end
