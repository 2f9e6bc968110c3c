-- What is due waits; returns whether there may be more.
local PROMOTED_AT_ONCE = 500
local function promoteDue()
  local tickets = redis.call('ZRANGEBYSCORE', inbox.due, '-inf', now, 'LIMIT', 0, PROMOTED_AT_ONCE)
  if #tickets > 0 then
    local words = {}
    for i, ticket in ipairs(tickets) do
      words[2 * i - 1], words[2 * i] = scoreOf(ticket), ticket
    end
    redis.call('ZADD', inbox.waiting, unpack(words))
    redis.call('ZREM', inbox.due, unpack(tickets))
  end
  return #tickets == PROMOTED_AT_ONCE
end
