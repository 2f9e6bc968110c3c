-- A group as a whole. `keys`: stream, groups, attempts, due, parked, dropped, sweep, busy, held, paused, deleted. Needs `turns`.
local LAST_OF_ALL = '18446744073709551615-18446744073709551615'
local FORGOTTEN_AT_ONCE = 1000

-- Its fields as Redis has them; nil where it does not exist.
local function groupFields(keys, group)
  if redis.call('EXISTS', keys.stream) == 0 then
    return nil
  end
  for _, flat in ipairs(redis.call('XINFO', 'GROUPS', keys.stream)) do
    local fields = fieldsOf(flat)
    if fields.name == group then
      return fields
    end
  end
end

-- Forgets what it has read and not finished: that would fence off the deliveries to come, and hold the stream back.
local function forgetUnfinished(keys, group)
  for from = 0, redis.call('ZCARD', keys.due) - 1, FORGOTTEN_AT_ONCE do
    local members = {}
    for i, position in ipairs(redis.call('ZRANGE', keys.due, from, from + FORGOTTEN_AT_ONCE - 1)) do
      members[i] = position .. ' ' .. group
    end
    redis.call('ZREM', keys.parked, unpack(members))
  end
  for from = 0, redis.call('ZCARD', keys.held) - 1, FORGOTTEN_AT_ONCE do
    local members = {}
    for i, member in ipairs(redis.call('ZRANGE', keys.held, from, from + FORGOTTEN_AT_ONCE - 1)) do
      members[i] = positionOf(member) .. ' ' .. group
    end
    redis.call('ZREM', keys.parked, unpack(members))
  end
  redis.call('UNLINK', keys.attempts, keys.due, keys.busy, keys.held)
end

-- Makes everything that was read until now worthless, and tells consumers that read directly.
local function changeBase(keys, time)
  -- Microseconds: no fence can have grown beyond them meanwhile.
  local before = tonumber(redis.call('HGET', keys.sweep, 'base') or '0')
  redis.call('HSET', keys.sweep, 'base', string.format('%.0f', math.max(time[1] * 1000000 + time[2], before + 1000000)))
end

-- Sets the cursor of a group that may be paused. `read` is how many entries it has had, or nil.
local function setCursor(keys, group, position, read, isNew)
  if redis.call('HGET', keys.paused, group) then
    redis.call('HSET', keys.paused, group, position .. ' ' .. (read and string.format('%.0f', read) or ''))
    position, read = LAST_OF_ALL, nil
  end
  local words = { 'XGROUP', isNew and 'CREATE' or 'SETID', keys.stream, group, position }
  if isNew then
    words[#words + 1] = 'MKSTREAM'
  end
  if read then
    words[#words + 1], words[#words + 2] = 'ENTRIESREAD', string.format('%.0f', read)
  end
  redis.call(unpack(words))
end

-- Makes consumers that block on the stream look again: Redis does so when one of its groups ends.
local function wakeConsumers(keys)
  if redis.call('EXISTS', keys.stream) == 1 then
    local name = '\0wake'
    redis.call('XGROUP', 'CREATE', keys.stream, name, '$')
    redis.call('XGROUP', 'DESTROY', keys.stream, name)
  end
end
