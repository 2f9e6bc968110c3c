-- A ticket is a queued item's place in line and what has to be known of it: "<place><expiry>|<priority>|<id>", with a "*"
-- behind the place where several recipients may have the item.
local PLACE = 12
local BAR, STAR = 124, 42

local function idOf(ticket)
  local bar = string.find(ticket, '|', PLACE + 1, true)
  return string.sub(ticket, string.find(ticket, '|', bar + 1, true) + 1)
end

local function isShared(ticket)
  return string.byte(ticket, PLACE + 1) == STAR
end

-- Milliseconds since the epoch, or nil.
local function expiryOf(ticket)
  if string.byte(ticket, PLACE + 1) == BAR then
    return nil
  end
  return tonumber(string.match(ticket, '^%*?(%d+)', PLACE + 1))
end

local function priorityOf(ticket)
  return string.match(ticket, '^%*?%d*|(%-?%d+)|', PLACE + 1)
end

-- What a ticket that waits is sorted by: minus its priority, as text, so that no digit is lost.
local function scoreOf(ticket)
  local sign, digits = string.match(ticket, '^%*?%d*|(%-?)(%d+)|', PLACE + 1)
  return (sign == '-' or digits == '0') and digits or '-' .. digits
end

-- A place in line as a number that is exact enough to tell pushes apart, and what tells apart the items of one.
local function placeOf(ticket)
  return tonumber(string.sub(ticket, 1, 9), 36), tonumber(string.sub(ticket, 10, PLACE), 36)
end

-- Whether a ticket's place is before that of another. Texts are not compared: their order depends on the server's locale.
local function isOlder(ticket, other)
  local line, digits = placeOf(ticket)
  local otherLine, otherDigits = placeOf(other)
  return line < otherLine or (line == otherLine and digits < otherDigits)
end
