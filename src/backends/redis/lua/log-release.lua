#!lua flags=allow-oom
-- Gives back what a consumer holds, uncounted and available at once, and removes the consumer when that is all.
-- KEYS  1 stream  2 attempts  3 due  4 parked  5 sweep
-- ARGV  1 group  2 consumer
-- Reply 1 when there is more
--@ deliveries
local stream, group, consumer = KEYS[1], ARGV[1], ARGV[2]
local SLICE = 500
local pending = redis.pcall('XPENDING', stream, group, '-', '+', SLICE, consumer)
if pending.err then
  return 0
end
if #pending > 0 then
  local positions, states, dues, members = {}, {}, {}, {}
  for i, delivery in ipairs(pending) do
    positions[i] = delivery[1]
  end
  local time = redis.call('TIME')
  local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
  local base = redis.call('HGET', KEYS[5], 'base') or '0'
  for i, state in ipairs(redis.call('HMGET', KEYS[2], unpack(positions))) do
    local fence, attempt, failedAt = stateOf(state, base)
    states[2 * i - 1], states[2 * i] = positions[i], stateText(fence + 1, attempt, failedAt)
    dues[2 * i - 1], dues[2 * i] = now, positions[i]
    members[2 * i - 1], members[2 * i] = string.match(positions[i], '^%d+'), positions[i] .. ' ' .. group
  end
  redis.call('XACK', stream, group, unpack(positions))
  redis.call('HSET', KEYS[2], unpack(states))
  redis.call('ZADD', KEYS[3], unpack(dues))
  redis.call('ZADD', KEYS[4], unpack(members))
end
if #pending == SLICE then
  return 1
end
redis.call('XGROUP', 'DELCONSUMER', stream, group, consumer)
return 0
