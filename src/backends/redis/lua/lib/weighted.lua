-- One delivery in five goes round the priorities: to the oldest of the next less urgent one, and after the least urgent to
-- that of the most. Pops up to `room` tickets. `turn`: deliveries since the last that went round; `level`: the score that one
-- had.
local STRICT = 4

local function popWeighted(inbox, room, turn, level)
  local popped = {}
  turn = tonumber(turn or 0)
  while #popped < room do
    local some
    if turn < STRICT then
      some = popStrict(math.min(STRICT - turn, room - #popped))
      turn = turn + #some
    else
      local from = level and '(' .. level or '-inf'
      local found = redis.call('ZRANGEBYSCORE', inbox.waiting, from, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
      found = #found > 0 and found or redis.call('ZRANGE', inbox.waiting, 0, 0, 'WITHSCORES')
      some = { found[1] }
      if #found > 0 then
        redis.call('ZREM', inbox.waiting, found[1])
        turn, level = 0, found[2]
      end
    end
    if #some == 0 then
      break
    end
    for _, ticket in ipairs(some) do
      popped[#popped + 1] = ticket
    end
  end
  redis.call('HSET', inbox.counters, 'turn', turn, 'level', level or '-inf')
  return popped, turn, level
end
