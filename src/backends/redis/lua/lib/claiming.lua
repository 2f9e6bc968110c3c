-- The part of log-take.lua that hands out what was read before: due retries, and entries that waited for their turn.

-- So many pages of what is held are looked through at a time.
local HELD_PAGES = 5

local function parkedMember(position)
  return position .. ' ' .. group
end

-- Those of the entries that are for this group and whose turn it is. The others are pending no more.
local function mine(entries)
  local own, others = {}, {}
  for _, entry in ipairs(entries) do
    if isForeign(entry[2]) then
      others[#others + 1] = entry[1]
    else
      own[#own + 1] = entry
    end
  end
  if #others > 0 then
    redis.call('XACK', stream, group, unpack(others))
    redis.call('HDEL', attempts, unpack(others))
  end
  if hasOrder then
    return admit(keys, group, order, own)
  end
  return own, {}
end

-- Claims deliveries and hands them out as `attempts` has them by now. Returns the positions that exist, with "held" for those
-- whose turn it is not after all; or nil.
local function claim(positions, ...)
  local words = { 'XCLAIM', stream, group, consumer, 0, unpack(positions) }
  for _, option in ipairs({ ... }) do
    words[#words + 1] = option
  end
  local entries = unlessMissing(redis.pcall(unpack(words)))
  if not entries then
    return nil
  end
  local states, existing = {}, {}
  for i, state in ipairs(redis.call('HMGET', attempts, unpack(positions))) do
    states[positions[i]] = state
  end
  local own, held = mine(entries)
  for _, entry in ipairs(entries) do
    existing[entry[1]] = held[entry[1]] and 'held' or 'there'
  end
  for _, entry in ipairs(own) do
    receipts[#receipts + 1] = receiptOf(entry[1], states[entry[1]])
    out[#receipts + 4] = blobOf(entry[2])
  end
  return existing
end

-- Forgets that entries were parked; those that exist no more are gone, unless whoever dropped them counted them.
local function unpark(positions, existing)
  local members = {}
  for _, position in ipairs(positions) do
    if existing[position] == 'there' then
      members[#members + 1] = parkedMember(position)
    elseif not existing[position] then
      gone = gone + redis.call('ZREM', parked, parkedMember(position))
      redis.call('HDEL', attempts, position)
      finished(position)
    end
  end
  if #members > 0 then
    redis.call('ZREM', parked, unpack(members))
  end
end

-- Forgets held entries before the first one there is, some thousands at a time: whoever dropped them has counted them.
-- `from` is where to begin; returns where to go on, or nil at the end.
local function unholdDropped(from, first)
  for _ = 1, HELD_PAGES do
    local page, stale = redis.call('ZRANGEBYLEX', keys.held, from, '+', 'LIMIT', 0, LOOKED_AT), {}
    for _, member in ipairs(page) do
      local position = positionOf(member)
      if not first or isBefore(position, first) then
        stale[#stale + 1] = member
        unpark({ position }, {})
      end
    end
    if #stale > 0 then
      redis.call('ZREM', keys.held, unpack(stale))
    end
    if #page < LOOKED_AT then
      return nil
    end
    from = '(' .. page[#page]
  end
  return from
end

-- Goes on with that where the last take left off, and once more from the beginning for what was dropped meanwhile.
local function unholdSome(state, isNew, first)
  local again = state and (isNew or string.sub(state, 1, 1) == '1')
  local from = unholdDropped(state and string.sub(state, 2) or '-', first)
  if not from and again then
    from, again = '-', false
  end
  if from then
    redis.call('HSET', KEYS[8], 'unheld', (again and '1' or '0') .. from)
  elseif state then
    redis.call('HDEL', KEYS[8], 'unheld')
  end
end

-- Reports what was dropped since the last report, and forgets what was parked among it.
local function reportDropped()
  local dropped, state = redis.call('HGET', KEYS[7], group), hasOrder and known[4]
  if not dropped and not state then
    return
  end
  local first = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
  first = first and first[1]
  if dropped then
    redis.call('HDEL', KEYS[7], group)
    gone = gone + dropped
    local stale = {}
    for _, position in ipairs(redis.call('ZRANGE', due, 0, LOOKED_AT - 1)) do
      if not first or isBefore(position, first) then
        stale[#stale + 1] = position
      end
    end
    if #stale > 0 then
      redis.call('ZREM', due, unpack(stale))
      unpark(stale, {})
    end
  end
  if hasOrder then
    unholdSome(state, dropped, first)
  end
end

local function takeDue()
  local positions = redis.call('ZRANGEBYSCORE', due, '-inf', now(), 'LIMIT', 0, max)
  local existing = #positions > 0 and not isPaused() and claim(positions, 'FORCE')
  if existing then
    redis.call('ZREM', due, unpack(positions))
    unpark(positions, existing)
  end
end

-- Takes those that waited for others of their key, and whose turn it is.
local function takeTurns()
  passOnEnded()
  while #receipts < max do
    local members = redis.call('ZRANGEBYLEX', keys.held, '[!', '("', 'LIMIT', 0, max - #receipts)
    if #members == 0 or isPaused() then
      return
    end
    local positions = {}
    for i, member in ipairs(members) do
      positions[i] = positionOf(member)
    end
    local existing = claim(positions, 'FORCE')
    if not existing then
      return
    end
    redis.call('ZREM', keys.held, unpack(members))
    unpark(positions, existing)
    passOnEnded()
  end
end
