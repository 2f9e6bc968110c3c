-- What may be dropped from a stream, dropping it, and telling groups what they have lost. Needs `positions`
-- and `entries`.
-- `keys`: stream, parked, dropped, limits, paused.

-- Entries may be large.
local LOOKED_AT_ONCE = 100

-- The first position behind another.
local function positionAfter(position)
  local ms, sequence = string.match(position, '^(%d+)-(%d+)$')
  if tonumber(sequence) < 9007199254740992 then
    return ms .. '-' .. string.format('%.0f', tonumber(sequence) + 1)
  end
  -- The end of a millisecond; behind the last of them there is nothing.
  return tonumber(ms) < 9007199254740992 and string.format('%.0f', tonumber(ms) + 1) .. '-0' or position
end

-- Redis counts what each group has read, but 7.0 tells neither its replicas nor its append-only file: on another server, or
-- on one that has started anew, those counts are worth nothing.
local function forgetReads(keys, groups)
  local info = redis.pcall('INFO', 'server')
  local server = type(info) == 'string' and string.match(info, 'run_id:(%w+)') or ''
  if redis.call('HGET', keys.limits, 'server') == server then
    return
  end
  for name, group in pairs(groups) do
    group['entries-read'] = nil
    if group.paused then
      redis.call('HSET', keys.paused, name, group['last-delivered-id'] .. ' ')
    else
      redis.call('XGROUP', 'SETID', keys.stream, name, group['last-delivered-id'])
    end
  end
  redis.call('HSET', keys.limits, 'server', server)
end

-- All groups by name: their fields, with the cursor of a paused one as it will go on.
local function groupsOf(keys)
  local groups = {}
  for _, flat in ipairs(redis.call('XINFO', 'GROUPS', keys.stream)) do
    local group = fieldsOf(flat)
    groups[group.name] = group
  end
  local paused = next(groups) and redis.call('HGETALL', keys.paused) or {}
  for i = 1, #paused, 2 do
    local group = groups[paused[i]]
    if group then
      local cursor, read = string.match(paused[i + 1], '^(%S+) ?(%d*)$')
      group.paused, group['last-delivered-id'], group['entries-read'] = true, cursor, tonumber(read)
    end
  end
  if next(groups) then
    forgetReads(keys, groups)
  end
  return groups
end

-- Says how many entries a group has had, delivered or dropped.
local function setRead(keys, name, group, read)
  if group.paused then
    redis.call('HSET', keys.paused, name, group['last-delivered-id'] .. ' ' .. string.format('%.0f', read))
  else
    redis.call('XGROUP', 'SETID', keys.stream, name, group['last-delivered-id'], 'ENTRIESREAD', read)
  end
end

-- Forgets parked entries of which nothing is left, those before a position or all, and counts them for their groups.
local function forgetParked(keys, oldest)
  local upTo = oldest and string.match(oldest, '^%d+') or '+inf'
  local stale
  repeat
    local lost = {}
    stale = {}
    for _, member in ipairs(redis.call('ZRANGEBYSCORE', keys.parked, '-inf', upTo, 'LIMIT', 0, 1000)) do
      local position, name = string.match(member, '^(%S+) (.*)$')
      if not oldest or isBefore(position, oldest) then
        stale[#stale + 1], lost[name] = member, (lost[name] or 0) + 1
      end
    end
    if #stale > 0 then
      redis.call('ZREM', keys.parked, unpack(stale))
    end
    for name, entries in pairs(lost) do
      redis.call('HINCRBY', keys.dropped, name, entries)
    end
  until #stale < 1000
end

-- The oldest of the parked members that is of a group that still exists, and that group; nil when there is none.
local function headOfParked(keys, groups)
  while true do
    local head = redis.call('ZRANGE', keys.parked, 0, 0, 'WITHSCORES')
    if not head[1] then
      return nil
    end
    -- All of that millisecond: within one, members do not sort as positions do.
    local oldest, owner, from = nil, nil, 0
    repeat
      local sameMs = redis.call('ZRANGEBYSCORE', keys.parked, head[2], head[2], 'LIMIT', from, 1000)
      local orphans = {}
      for _, member in ipairs(sameMs) do
        local position, name = string.match(member, '^(%S+) (.*)$')
        if not groups[name] then
          orphans[#orphans + 1] = member
        elseif not oldest or isBefore(position, oldest) then
          oldest, owner = position, name
        end
      end
      if #orphans > 0 then
        redis.call('ZREM', keys.parked, unpack(orphans))
      end
      from = from + #sameMs - #orphans
    until #sameMs < 1000
    if oldest then
      return oldest, owner
    end
  end
end

-- The oldest retry or held entry of a group that still exists, and that group; nil when there is none. What somebody else
-- removed beneath it holds the stream back no longer.
local function oldestParked(keys, groups)
  local oldest, owner = headOfParked(keys, groups)
  local first = oldest and redis.call('XRANGE', keys.stream, '-', '+', 'COUNT', 1)[1]
  if not oldest or (first and not isBefore(oldest, first[1])) then
    return oldest, owner
  end
  forgetParked(keys, first and first[1])
  return headOfParked(keys, groups)
end

-- The oldest position that some group has not finished and that group, nil when every entry is finished; all groups.
local function firstUnfinished(keys)
  local groups = groupsOf(keys)
  local first, slowest
  for name, group in pairs(groups) do
    local candidate = positionAfter(group['last-delivered-id'])
    if group.pending > 0 then
      candidate = redis.call('XPENDING', keys.stream, name)[2]
    end
    if not first or isBefore(candidate, first) then
      first, slowest = candidate, name
    end
  end
  local waiting, owner
  if first then
    waiting, owner = oldestParked(keys, groups)
  end
  if waiting and isBefore(waiting, first) then
    first, slowest = waiting, owner
  end
  return first, slowest, groups
end

-- Trims, and notes that the groups know.
local function trim(keys, ...)
  local freed = redis.call('XTRIM', keys.stream, ...)
  if freed > 0 then
    redis.call('HINCRBY', keys.limits, 'removed', freed)
  end
  return freed
end

-- Trims up to `slice` of the entries before a position: whole nodes at once, and what is left of one by looking at it.
local function trimBefore(keys, position, slice)
  local freed = trim(keys, 'MINID', '~', position, 'LIMIT', slice)
  local rest = freed < slice and redis.call('XRANGE', keys.stream, '-', '(' .. position, 'COUNT', slice - freed) or {}
  if #rest > 0 then
    freed = freed + trim(keys, 'MINID', '=', positionAfter(rest[#rest][1]))
  end
  return freed
end

-- Looks at what is about to be dropped, the first entries up to a position, where counting alone does not tell what groups
-- lose: of some Redis does not know how much they have had, those that started at a time to come and those that met deleted
-- entries; and what was redriven for one group is no loss to another. Counts it for the former, and returns how many of the
-- entries that each group has not had are not for it.
local function lookAtDropped(keys, groups, to, count)
  local foreign, behind, uncounted = {}, {}, {}
  for name, group in pairs(groups) do
    local cursor = group['last-delivered-id']
    if to == '+' or isBefore(cursor, string.sub(to, 2)) then
      behind[name] = cursor
      uncounted[name] = not group['entries-read'] and cursor or nil
    end
  end
  local first = redis.call('XRANGE', keys.stream, '-', '+', 'COUNT', 1)[1]
  local redriven = redis.call('HGET', keys.limits, 'redriven')
  local hasRedriven = first and redriven and next(behind) and not isBefore(redriven, first[1])
  if not next(uncounted) and not hasRedriven then
    return foreign
  end
  local lost, after, page = {}, '-', nil
  repeat
    page = redis.call('XRANGE', keys.stream, after, to, 'COUNT', math.min(count, LOOKED_AT_ONCE))
    for _, entry in ipairs(page) do
      local owner = groupOf(entry[2])
      for name, cursor in pairs(owner and behind or {}) do
        if name ~= owner and isBefore(cursor, entry[1]) then
          foreign[name] = (foreign[name] or 0) + 1
        end
      end
      for name, cursor in pairs(uncounted) do
        if (owner or name) == name and isBefore(cursor, entry[1]) then
          lost[name] = (lost[name] or 0) + 1
        end
      end
      after = '(' .. entry[1]
    end
    count = count - #page
  until count == 0 or #page < LOOKED_AT_ONCE or (not next(uncounted) and isBefore(redriven, string.sub(after, 2)))
  for name, entries in pairs(lost) do
    redis.call('HINCRBY', keys.dropped, name, entries)
  end
  return foreign
end

-- Counts, for each group, what was dropped before it was delivered, but for `foreign` ones, or while it was parked.
local function account(keys, groups, foreign)
  local info = fieldsOf(redis.call('XINFO', 'STREAM', keys.stream))
  local removed = info['entries-added'] - info.length
  for name, group in pairs(groups) do
    local read = group['entries-read']
    if read and read < removed then
      redis.call('HINCRBY', keys.dropped, name, math.max(0, removed - read - (foreign[name] or 0)))
      setRead(keys, name, group, removed)
    end
  end
  forgetParked(keys, info['first-entry'] and info['first-entry'][1])
end

-- Drops up to `slice` entries appended before a time, unfinished ones only where the stream may lose them. Returns how
-- many, whether there may be more, and the group that keeps what is left of them, if one does.
local function dropAged(keys, beforeMs, mayLose, slice)
  local first, slowest, groups = firstUnfinished(keys)
  local limit = string.format('%.0f', beforeMs) .. '-0'
  local spares = first and not mayLose and isBefore(first, limit)
  local foreign = mayLose and lookAtDropped(keys, groups, '(' .. limit, slice)
  local freed = trimBefore(keys, spares and first or limit, slice)
  if mayLose and freed > 0 then
    account(keys, groups, foreign)
  end
  if freed >= slice then
    return freed, true, nil
  end
  local oldest = spares and redis.call('XRANGE', keys.stream, '-', '+', 'COUNT', 1)[1]
  return freed, false, oldest and isBefore(oldest[1], limit) and slowest or nil
end
