-- Ends what has expired while it waited. A delivery that is running is left alone: its item ends when it comes back.
-- `keys`: records, waiting, leased, due, attempts, expiry, counters, expiring.
local EXPIRED_AT_ONCE = 250

-- Forgets items that are not held by anybody.
local function endExpired(keys, tickets)
  local ids = {}
  for i, ticket in ipairs(tickets) do
    ids[i] = idOf(ticket)
  end
  redis.call('HDEL', keys.records, unpack(ids))
  redis.call('HDEL', keys.attempts, unpack(tickets))
  redis.call('ZREM', keys.expiry, unpack(tickets))
  redis.call('HINCRBY', keys.counters, 'expired', #tickets)
  return #tickets
end

-- Returns how many items were ended, and whether there may be more.
local function expireWaiting(keys, recipient, now)
  local tickets = redis.call('ZRANGEBYSCORE', keys.expiry, '-inf', now, 'LIMIT', 0, EXPIRED_AT_ONCE)
  if #tickets == 0 then
    return 0, false
  end
  local ended = {}
  for i, lease in ipairs(redis.call('ZMSCORE', keys.leased, unpack(tickets))) do
    if not lease then
      ended[#ended + 1] = tickets[i]
    end
  end
  redis.call('ZREM', keys.expiry, unpack(tickets))
  if #ended > 0 then
    redis.call('ZREM', keys.waiting, unpack(ended))
    redis.call('ZREM', keys.due, unpack(ended))
    endExpired(keys, ended)
  end
  local soonest = redis.call('ZRANGE', keys.expiry, 0, 0, 'WITHSCORES')
  if soonest[2] then
    redis.call('ZADD', keys.expiring, soonest[2], recipient)
  else
    redis.call('ZREM', keys.expiring, recipient)
  end
  return #ended, #tickets == EXPIRED_AT_ONCE
end
