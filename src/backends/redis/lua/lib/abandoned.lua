-- The part of log-take.lua that looks, once a second, for what nobody else would find.
local POISONED_AT_ONCE = 200
local KEYS_AT_ONCE = 100
local IDLE_CONSUMER_MS = 3600000

-- Takes over one pending delivery whose lease has run out, or buries it when that was its last attempt.
local function takeOver(position, holder, abandoned)
  local fence, attempt, failedAt = stateOf(redis.call('HGET', attempts, position), base)
  if attempt < settings().maxAttempts then
    local state = stateText(fence + 1, attempt + 1, failedAt or string.format('%.0f', now()))
    redis.call('HSET', attempts, position, state)
    abandoned[#abandoned + 1] = position
    return
  end
  local message = 'no consumer finished it in ' .. attempt .. ' attempts'
  local reason = cjson.encode({ kind = 'abandoned', message = message })
  if bury(position, attempt, failedAt, holder, reason) then
    poisoned = poisoned + 1
  end
  redis.call('XACK', stream, group, position)
  redis.call('HDEL', attempts, position)
  finished(position)
end

-- The lease that a delivery has, by when it was taken or renewed: a change of the settings is none of its concern.
local function leaseOf(takenAt, changes)
  for at, leaseMs in string.gmatch(changes, '(%d+):(%d+)') do
    if takenAt < tonumber(at) then
      return tonumber(leaseMs)
    end
  end
  return settings().leaseMs
end

local function isOnItsWay(position)
  local pending = unlessMissing(redis.pcall('XPENDING', stream, group, position, position, 1))
  -- Without its group nothing can be said of it, and whoever restores that forgets all of it.
  return not pending or #pending > 0
    or redis.call('ZSCORE', due, position)
    or redis.call('ZSCORE', keys.held, '!' .. placeOf(position))
end

-- Somebody may have acknowledged a delivery beneath us, or removed its consumer with all that it had: its key would stay
-- busy for ever.
local function checkHolder(key)
  local holder = redis.call('HGET', keys.busy, 'k' .. key)
  local position = holder and string.match(holder, '^[^+]+')
  if position and not isOnItsWay(position) then
    finished(position)
  end
end

-- Checks the keys that something waits for, some each second, from where the last look ended.
local function checkHolders(from)
  passOnEnded()
  if order == 'strict' then
    return checkHolder('')
  end
  local at = from or '[0'
  for _ = 1, KEYS_AT_ONCE do
    local member = redis.call('ZRANGEBYLEX', keys.held, at, '+', 'LIMIT', 0, 1)[1]
    if not member then
      redis.call('HDEL', KEYS[8], 'checked')
      return
    end
    local length = string.match(member, '^%d+')
    local key = string.sub(member, #length + 2, #length + 1 + tonumber(length))
    checkHolder(key)
    at = '(' .. string.sub(lineOf(key), 1, -2) .. ';'
  end
  redis.call('HSET', KEYS[8], 'checked', at)
end

-- Counts what somebody else removed before it was delivered, as far as Redis tells: all that lies in front of the oldest
-- entry that is left; what consumers have passed by, once they have read all; single ones among the next to be read.
-- `seen` is how many entries had been removed at the last look.
local function countRemoved(seen)
--@ room
  local all = { stream = stream, limits = KEYS[13], paused = KEYS[11] }
  if redis.call('EXISTS', stream) == 0 then
    return
  end
  local info = fieldsOf(redis.call('XINFO', 'STREAM', stream))
  local added, last = info['entries-added'], info['last-generated-id']
  local removed = added - info.length
  local unknown = removed - (redis.call('HGET', all.limits, 'removed') or 0)
  if unknown == tonumber(seen or 0) then
    return
  end
  local own = groupsOf(all)[group]
  -- One that starts at a time to come has not had what it will pass by.
  if not own or isBefore(last, own['last-delivered-id']) then
    return
  end
  local cursor, read, had = own['last-delivered-id'], own['entries-read'], nil
  if cursor == last then
    had = added
  elseif info.length == 0 or isBefore(cursor, info['first-entry'][1]) then
    had = removed
  elseif read and added - read <= LOOKED_AT and isBefore(cursor, info['max-deleted-entry-id']) then
    had = added - #redis.call('XRANGE', stream, '(' .. cursor, '+', 'COUNT', LOOKED_AT)
  end
  if had and had ~= read then
    gone = gone + (read and math.max(0, had - read) or 0)
    setRead(all, group, own, had)
  end
  redis.call('HSET', KEYS[8], 'removed', unknown)
end

-- Looks at a slice of the pending deliveries. Consumers share the place where to go on, and begin anew once a second.
local function sweep()
  if not settings() or isPaused() then
    return
  end
  local state = redis.call('HMGET', KEYS[8], 'after', 'began', 'leases', 'checked', 'removed')
  local after = state[1]
  if not after then
    local sinceMs = now() - tonumber(state[2] or 0)
    if sinceMs >= 0 and sinceMs < 900 then
      return
    end
    redis.call('HSET', KEYS[8], 'began', now())
    countRemoved(state[5])
    if hasOrder then
      checkHolders(state[4])
    end
  end
  local pending = unlessMissing(redis.pcall('XPENDING', stream, group, after and '(' .. after or '-', '+', LOOKED_AT))
  if not pending then
    return
  end
  -- Idle times are of this moment, not of the one when the script began.
  local time = redis.call('TIME')
  local lookedAt = time[1] * 1000 + math.floor(time[2] / 1000)
  local abandoned = {}
  local complete = #pending < LOOKED_AT
  for _, delivery in ipairs(pending) do
    local leaseMs = state[3] and leaseOf(lookedAt - delivery[3], state[3]) or settings().leaseMs
    if delivery[3] >= leaseMs then
      if #receipts + #abandoned >= max or poisoned >= POISONED_AT_ONCE then
        complete = false
        left = 1
        break
      end
      takeOver(delivery[1], delivery[2], abandoned)
    end
    after = delivery[1]
  end
  if complete then
    redis.call('HDEL', KEYS[8], 'after')
  elseif after then
    left = 1
    redis.call('HSET', KEYS[8], 'after', after)
  end
  local existing = #abandoned > 0 and claim(abandoned) or {}
  for _, position in ipairs(abandoned) do
    if not existing[position] then
      -- XCLAIM has forgotten deliveries without an entry by itself.
      gone = gone + 1
      redis.call('HDEL', attempts, position)
      finished(position)
    end
  end
end

local function removeIdleConsumers()
  for _, flat in ipairs(unlessMissing(redis.pcall('XINFO', 'CONSUMERS', stream, group)) or {}) do
    local other = fieldsOf(flat)
    if other.pending == 0 and other.idle > IDLE_CONSUMER_MS and other.name ~= consumer then
      redis.call('XGROUP', 'DELCONSUMER', stream, group, other.name)
    end
  end
end
