-- Makes room for a push where a full queue drops the oldest: of the recipients that get something, what nobody holds, the
-- least urgent first, and the oldest first of them. Of an audience, those are looked at that get it in this call.
local MAX_DROPPED = 5000
local DUE_LOOKED_AT = 1000
-- Most looks for who else has an item.
local MAX_LOOKS = 16384

local function isLessUrgent(a, b)
  if a.score ~= b.score then
    return a.score > b.score
  end
  return isOlder(a.ticket, b.ticket)
end

local function candidate(ticket, score, inbox)
  return { ticket = ticket, score = tonumber(score), inbox = inbox }
end

-- Adds up to `count` of what waits in an inbox, and what is delayed.
local function addCandidates(list, inbox, count)
  local score = redis.call('ZRANGE', inbox.waiting, 0, 0, 'REV', 'WITHSCORES')[2]
  local found = 0
  while score and found < count do
    local level = redis.call('ZRANGEBYSCORE', inbox.waiting, score, score, 'LIMIT', 0, count - found)
    for _, ticket in ipairs(level) do
      list[#list + 1] = candidate(ticket, score, inbox)
    end
    found = found + #level
    score = redis.call('ZRANGE', inbox.waiting, '(' .. score, '-inf', 'BYSCORE', 'REV', 'LIMIT', 0, 1, 'WITHSCORES')[2]
  end
  for _, ticket in ipairs(redis.call('ZRANGE', inbox.due, 0, DUE_LOOKED_AT - 1)) do
    list[#list + 1] = candidate(ticket, scoreOf(ticket), inbox)
  end
end

local function inboxesOf(groups)
  local inboxes, seen = {}, {}
  local function add(name)
    if not seen[name] then
      seen[name] = true
      inboxes[#inboxes + 1] = inboxOf(name)
    end
  end
  for _, group in ipairs(groups) do
    if not group.audience then
      add(group.name)
    end
    for _, one in ipairs(group.list or {}) do
      add(one.name)
    end
  end
  return inboxes
end

-- Those of the inboxes that have an item, where nobody else has it, and nobody holds it.
local function holdersOf(ticket, inboxes, looks)
  local shares = tonumber(redis.call('HGET', PREFIX .. 'shares', memberOf(ticket, idOf(ticket))) or 0)
  local holders = {}
  if shares == 0 or shares > #inboxes or looks + #inboxes > MAX_LOOKS then
    return holders
  end
  for _, inbox in ipairs(inboxes) do
    if redis.call('ZSCORE', inbox.waiting, ticket) or redis.call('ZSCORE', inbox.due, ticket) then
      holders[#holders + 1] = inbox
    end
  end
  return #holders == shares and holders or {}
end

local function drop(inbox, tickets)
  local ids = {}
  for i, ticket in ipairs(tickets) do
    ids[i] = idOf(ticket)
  end
  for _, key in ipairs({ inbox.waiting, inbox.due, inbox.expiry }) do
    redis.call('ZREM', key, unpack(tickets))
  end
  redis.call('HDEL', inbox.attempts, unpack(tickets))
  redis.call('HINCRBY', inbox.counters, 'dropped', #tickets)
  redis.call('HINCRBY', inbox.counters, 'gone', #tickets)
  finish(inbox.recipient, tickets, ids)
end

-- Returns whether there is room now. Nothing is dropped where that would not make enough, nor as long as there is anything
-- that has ended by the clock alone.
local function dropOldest(groups, excess)
  if excess > MAX_DROPPED then
    return false
  end
  for _, key in ipairs({ 'expiring', 'lapses' }) do
    if #redis.call('ZRANGEBYSCORE', PREFIX .. key, '-inf', now, 'LIMIT', 0, 1) > 0 then
      return false
    end
  end
  local inboxes, list = inboxesOf(groups), {}
  for _, inbox in ipairs(inboxes) do
    addCandidates(list, inbox, excess)
  end
  table.sort(list, isLessUrgent)
  local chosen, seen, by, looks = 0, {}, {}, 0
  for _, one in ipairs(list) do
    if chosen < excess and not seen[one.ticket] then
      local holders = { one.inbox }
      if isShared(one.ticket) then
        seen[one.ticket] = true
        holders = holdersOf(one.ticket, inboxes, looks)
        looks = looks + #inboxes
      end
      for _, inbox in ipairs(holders) do
        by[inbox] = by[inbox] or {}
        table.insert(by[inbox], one.ticket)
      end
      chosen = chosen + math.min(#holders, 1)
    end
  end
  if chosen < excess then
    return false
  end
  for inbox, tickets in pairs(by) do
    for from = 1, #tickets, SLICE do
      drop(inbox, { unpack(tickets, from, math.min(from + SLICE - 1, #tickets)) })
    end
  end
  return true
end
