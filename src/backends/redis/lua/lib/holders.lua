-- A holder's lease is a hash: `end`, in ms since the epoch, 0 once it is over; `renewed`, when that was last.

-- Beyond any lease: a holder that ends while nobody reaps takes no memory for ever.
local LEASE_KEPT_MS = 86400000

local function nowMs()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function whole(number)
  return string.format('%.0f', number)
end
