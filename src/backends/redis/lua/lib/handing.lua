-- Puts tickets in front of a recipient. A batch of them is three lists of scores and tickets by turns, all of it text:
-- `waiting`, `due` and `expiry`.
local function soonestOf(list)
  local soonest
  for i = 1, #list, 2 do
    local at = tonumber(list[i])
    soonest = math.min(soonest or at, at)
  end
  return soonest
end

local function handOut(inbox, batch)
  local rings = #batch.waiting > 0
  if #batch.due > 0 then
    -- Whoever waits has to know of something earlier to wait for, too.
    local before = redis.call('ZRANGE', inbox.due, 0, 0, 'WITHSCORES')[2]
    rings = rings or not before or soonestOf(batch.due) < tonumber(before)
    callWith('ZADD', inbox.due, batch.due)
  end
  if #batch.expiry > 0 then
--@ names
    local soonest = string.format('%.0f', soonestOf(batch.expiry))
    callWith('ZADD', inbox.expiry, batch.expiry)
    redis.call('ZADD', inbox.expiring, 'LT', soonest, decodeName(inbox.recipient))
  end
  callWith('ZADD', inbox.waiting, batch.waiting)
  if rings then
    ring(inbox.bell)
  end
end
