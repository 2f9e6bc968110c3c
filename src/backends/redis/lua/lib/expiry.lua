-- Ends what has expired while it waited. A delivery that is running is left alone: its item ends when it comes back.
local EXPIRED_AT_ONCE = 250

-- Ends items that are not held by anybody; returns their ids.
local function endExpired(inbox, tickets)
  local ids = {}
  for i, ticket in ipairs(tickets) do
    ids[i] = idOf(ticket)
  end
  finish(inbox.recipient, tickets, ids, 'expired', records and records.keepsThem and begunOf(inbox, tickets))
  redis.call('HDEL', inbox.attempts, unpack(tickets))
  redis.call('ZREM', inbox.expiry, unpack(tickets))
  redis.call('HINCRBY', inbox.counters, 'expired', #tickets)
  return ids
end

-- Notes when the next item of an inbox expires.
local function noteSoonest(inbox)
  local soonest = redis.call('ZRANGE', inbox.expiry, 0, 0, 'WITHSCORES')[2]
  if soonest then
    redis.call('ZADD', inbox.expiring, soonest, decodeName(inbox.recipient))
  else
    redis.call('ZREM', inbox.expiring, decodeName(inbox.recipient))
  end
end

-- Returns the ids of items that were ended, and whether there may be more.
local function expireWaiting(inbox)
  local tickets = redis.call('ZRANGEBYSCORE', inbox.expiry, '-inf', now, 'LIMIT', 0, EXPIRED_AT_ONCE)
  if #tickets == 0 then
    return tickets, false
  end
  local ended, ids = {}, {}
  for i, lease in ipairs(redis.call('ZMSCORE', inbox.leased, unpack(tickets))) do
    if not lease then
      ended[#ended + 1] = tickets[i]
    end
  end
  redis.call('ZREM', inbox.expiry, unpack(tickets))
  if #ended > 0 then
    redis.call('ZREM', inbox.waiting, unpack(ended))
    redis.call('ZREM', inbox.due, unpack(ended))
    ids = endExpired(inbox, ended)
  end
  noteSoonest(inbox)
  return ids, #tickets == EXPIRED_AT_ONCE
end
