-- A ticket is a queued item's place in line and what has to be known of it: "<place><expiry>|<priority>|<id>".
local PLACE = 12
local BAR = 124

local function idOf(ticket)
  local bar = string.find(ticket, '|', PLACE + 1, true)
  return string.sub(ticket, string.find(ticket, '|', bar + 1, true) + 1)
end

-- Milliseconds since the epoch, or nil.
local function expiryOf(ticket)
  if string.byte(ticket, PLACE + 1) == BAR then
    return nil
  end
  return tonumber(string.match(ticket, '^%d+', PLACE + 1))
end

local function priorityOf(ticket)
  return string.match(ticket, '^%d*|(%-?%d+)|', PLACE + 1)
end

-- What a ticket that waits is sorted by: minus its priority, as text, so that no digit is lost.
local function scoreOf(ticket)
  local sign, digits = string.match(ticket, '^%d*|(%-?)(%d+)|', PLACE + 1)
  return (sign == '-' or digits == '0') and digits or '-' .. digits
end

local function nowMs()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
