-- The part of log-take.lua that settles outcomes.

-- Copies an entry to the dead letters; false when it no longer exists, or is none of this group.
local function bury(position, attempt, failedAt, holder, reason)
  local entry = redis.call('XRANGE', stream, position, position)[1]
  if not entry then
    gone = gone + 1
    return false
  end
  if isForeign(entry[2]) then
    return false
  end
  -- Without settings there is no limit for a moment, until the client has restored them.
  local letter = { 'XADD', KEYS[4], 'MAXLEN', '=', settings() and settings().maxDeadLetters or 1000000, '*',
    'p', position, 'a', attempt, 'c', holder, 'r', reason }
  local key = keyOf(entry[2], 'key')
  if key then
    letter[#letter + 1], letter[#letter + 2] = 'k', key
  end
  if failedAt then
    letter[#letter + 1], letter[#letter + 2] = 'f', failedAt
  end
  letter[#letter + 1], letter[#letter + 2] = 'm', blobOf(entry[2])
  redis.call(unpack(letter))
  return true
end

local function settle(number, kind, position, fence, a, b)
  local state = hasAttempts and redis.call('HGET', attempts, position)
  local current, attempt, failedAt = stateOf(state, base)
  if current ~= tonumber(fence) or redis.call('XACK', stream, group, position) == 0 then
    lost[#lost + 1] = number
    return
  end
  if kind == 'retry' then
    -- It waits outside the pending list; the fence makes its old receipt worthless.
    failedAt = failedAt or (b == '1' and string.format('%.0f', now()) or nil)
    hasAttempts = true
    redis.call('HSET', attempts, position, stateText(current + 1, attempt + tonumber(b), failedAt))
    redis.call('ZADD', due, now() + tonumber(a), position)
    redis.call('ZADD', parked, string.match(position, '^%d+'), parkedMember(position))
    return
  end
  if kind == 'dead' then
    bury(position, attempt, failedAt, consumer, a)
  end
  if state then
    redis.call('HDEL', attempts, position)
  end
  finished(position)
end
