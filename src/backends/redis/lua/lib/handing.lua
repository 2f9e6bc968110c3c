-- Puts tickets in front of recipients. A batch of them is three lists of scores and tickets by turns: `waiting`, `due` and
-- `expiry`; the times as numbers or text.
local function soonestOf(list)
  local soonest
  for i = 1, #list, 2 do
    local at = tonumber(list[i])
    if not soonest or at < soonest then
      soonest = at
    end
  end
  return soonest
end

local function handOut(inbox, batch)
  local isDue = #batch.due > 0
  local before = isDue and redis.call('ZRANGE', inbox.due, 0, 0, 'WITHSCORES')[2]
  callWith('ZADD', inbox.waiting, batch.waiting)
  callWith('ZADD', inbox.due, batch.due)
  callWith('ZADD', inbox.expiry, batch.expiry)
  if #batch.expiry > 0 then
    redis.call('ZADD', inbox.expiring, 'LT', string.format('%.0f', soonestOf(batch.expiry)), decodeName(inbox.recipient))
  end
  -- Whoever waits has to know of something earlier to wait for, too.
  if #batch.waiting > 0 or (isDue and (not before or soonestOf(batch.due) < tonumber(before))) then
    ring(inbox.bell)
  end
end
