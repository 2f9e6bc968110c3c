-- Makes room for a push where a full queue drops the oldest: of the recipients that get something, what nobody holds, the
-- least urgent first, and the oldest first of them. Of an audience, those are looked at that get it in this call.
local MAX_DROPPED = 2000
-- Of what is delayed, the soonest due are looked at: so many of all inboxes together.
local DUE_LOOKED_AT = 1000
-- What choosing may cost: roughly in microseconds, as are the costs of its parts.
local MAX_COST = 8000
local COST_OF_INBOX, COST_OF_TICKET = 8, 2
local LARGEST_PAGE = 64

local cost = 0

-- Many inboxes may have the same ticket.
local candidates = {}
local function candidate(ticket, score)
  local known = candidates[ticket]
  if not known then
    cost = cost + COST_OF_TICKET
    local line, digits = placeOf(ticket)
    known = { ticket = ticket, score = tonumber(score), line = line, digits = digits }
    candidates[ticket] = known
  end
  return known
end

local function isLessUrgent(a, b)
  if a.score ~= b.score then
    return a.score > b.score
  end
  if a.line ~= b.line then
    return a.line < b.line
  end
  return a.digits < b.digits
end

-- Gives what waits in an inbox one by one, the least urgent first. All of one score lies together, the oldest in front.
local function waitingOf(inbox)
  local first = redis.call('ZCARD', inbox.waiting)
  local last, rank, score = first - 1, first, nil
  local page, at, size = {}, 0, 1
  return function()
    at = at + 1
    if at > #page then
      if rank > last then
        last = first - 1
        if last < 0 then
          return nil
        end
        score = redis.call('ZRANGE', inbox.waiting, last, last, 'WITHSCORES')[2]
        first = redis.call('ZCOUNT', inbox.waiting, '-inf', '(' .. score)
        rank = first
      end
      page, at = redis.call('ZRANGE', inbox.waiting, rank, math.min(rank + size - 1, last)), 1
      rank, size = rank + #page, math.min(2 * size, LARGEST_PAGE)
      cost = cost + 1 + #page / 4
    end
    return candidate(page[at], score)
  end
end

-- Gives what is delayed in an inbox, of the soonest due.
local function dueOf(inbox, count)
  local list, at = redis.call('ZRANGE', inbox.due, 0, count - 1), 0
  for i, ticket in ipairs(list) do
    list[i] = candidate(ticket, scoreOf(ticket))
  end
  table.sort(list, isLessUrgent)
  return function()
    at = at + 1
    return list[at]
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
    -- Dropping an answer makes no room.
    if not group.audience and not group.areAnswers then
      add(group.name)
    end
    for _, one in ipairs(group.list or {}) do
      add(one.name)
    end
  end
  return inboxes
end

-- The inboxes that come to an item now, where that is not dropped from under anybody else: no other has it, or holds it.
local function holdersOf(ticket, sources)
  local shares = tonumber(redis.call('HGET', PREFIX .. 'shares', memberOf(ticket, idOf(ticket))) or 0)
  local holders = {}
  for _, source in ipairs(sources) do
    if source.head and source.head.ticket == ticket then
      holders[#holders + 1] = source.inbox
    end
  end
  return #holders == shares and holders or {}
end

-- Chooses so many items, or none; returns the tickets of each inbox.
local function choose(inboxes, excess)
  local sources = {}
  local function add(inbox, nextOne)
    sources[#sources + 1] = { inbox = inbox, nextOne = nextOne, head = nextOne() }
  end
  local ofEach = math.max(1, math.floor(DUE_LOOKED_AT / #inboxes))
  for _, inbox in ipairs(inboxes) do
    if cost > MAX_COST then
      return nil
    end
    cost = cost + COST_OF_INBOX
    add(inbox, waitingOf(inbox))
    add(inbox, dueOf(inbox, ofEach))
  end
  local chosen, by = 0, {}
  while chosen < excess do
    local least
    for _, source in ipairs(sources) do
      if source.head and (not least or isLessUrgent(source.head, least.head)) then
        least = source
      end
    end
    cost = cost + #sources / 8
    if not least or cost > MAX_COST then
      return nil
    end
    local ticket = least.head.ticket
    local holders = isShared(ticket) and holdersOf(ticket, sources) or { least.inbox }
    for _, inbox in ipairs(holders) do
      by[inbox] = by[inbox] or {}
      table.insert(by[inbox], ticket)
    end
    chosen = chosen + math.min(#holders, 1)
    -- Whoever else has it comes to it now as well.
    for _, source in ipairs(sources) do
      if source.head and source.head.ticket == ticket then
        source.head = source.nextOne()
      end
    end
  end
  return by
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
  local by = choose(inboxesOf(groups), excess)
  for inbox, tickets in pairs(by or {}) do
    for from = 1, #tickets, SLICE do
      drop(inbox, { unpack(tickets, from, math.min(from + SLICE - 1, #tickets)) })
    end
  end
  return by ~= nil
end
