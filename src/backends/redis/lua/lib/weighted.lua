-- One delivery in five goes round the priorities: to the oldest of the next less urgent one, and after the least urgent to
-- that of the most. Pops up to `room` tickets with their scores, as ZPOPMIN does. `turn`: deliveries since the last that
-- went round; `level`: the score that one had.
local STRICT = 4

local function popWeighted(inbox, room, turn, level)
  local popped = {}
  turn = tonumber(turn or 0)
  while #popped < 2 * room do
    local some
    if turn < STRICT then
      some = redis.call('ZPOPMIN', inbox.waiting, math.min(STRICT - turn, room - #popped / 2))
      turn = turn + #some / 2
    else
      local from = level and '(' .. level or '-inf'
      some = redis.call('ZRANGEBYSCORE', inbox.waiting, from, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
      some = #some > 0 and some or redis.call('ZRANGE', inbox.waiting, 0, 0, 'WITHSCORES')
      if #some > 0 then
        redis.call('ZREM', inbox.waiting, some[1])
        turn, level = 0, some[2]
      end
    end
    if #some == 0 then
      break
    end
    for _, word in ipairs(some) do
      popped[#popped + 1] = word
    end
  end
  redis.call('HSET', inbox.counters, 'turn', turn, 'level', level or '-inf')
  return popped, turn, level
end
