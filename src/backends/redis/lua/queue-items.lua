#!lua flags=allow-oom
-- Reads items and kept records by their ids.
-- KEYS  1 records  2 state  3 one that never exists
-- ARGV  1 a stored id  2… more of them, 1000 in all at most
-- Reply 1 how many of the ids were looked at, from the first on  2 1 when there are any that have expired, to be ended first
--       3… seven of each item that there is: number of its id, "open" or "kept", record, its outcomes or "",
--         of an open one for a single recipient "w", "d" or "l" and the score, and what `attempts` says,
--         of one that several may have "s", and how many have it, and ""
--@ keyspace
--@ inboxes
--@ clock
--@ tickets
--@ line
--@ record
-- The call ends when it has read so much.
local MAX_BYTES = 1000000

local now = nowMs()
local result, bytes, hasExpired = { 0, 0 }, 0, false

local function add(...)
  for _, word in ipairs({ ... }) do
    result[#result + 1] = word
  end
end

local function isOver(ticket)
  local expiresAt = expiryOf(ticket)
  return expiresAt and expiresAt <= now
end

local function readOpen(number, id, record)
  local read = readRecord(record)
  if not read then
    return
  end
  local outcomes = redis.call('HGET', PREFIX .. 'outcomes', id) or ''
  local ticket = ticketsOf(read, id)[1]
  if read.recipient == '*' then
    hasExpired = hasExpired or isOver(ticket)
    local shares = redis.call('HGET', PREFIX .. 'shares', read.place .. id) or 0
    add(number, 'open', record, outcomes, 's', shares, '')
    return
  end
  local inbox = inboxOf(read.recipient)
  local score, state = redis.call('ZSCORE', inbox.leased, ticket), 'l'
  if not score then
    hasExpired = hasExpired or isOver(ticket)
    score, state = redis.call('ZSCORE', inbox.due, ticket), 'd'
    if not score or tonumber(score) <= now then
      score, state = '', 'w'
    end
  end
  add(number, 'open', record, outcomes, state, score, redis.call('HGET', inbox.attempts, ticket) or '')
end

for i, id in ipairs(ARGV) do
  result[1] = i
  local record = redis.call('HGET', KEYS[1], id)
  if record then
    readOpen(i, id, record)
  else
    record = redis.call('HGET', PREFIX .. 'finished', id)
    if record then
      add(i, 'kept', record, redis.call('HGET', PREFIX .. 'outcomes', id) or '', '', '', '')
    end
  end
  bytes = bytes + (record and #record or 0)
  if bytes >= MAX_BYTES then
    break
  end
end
result[2] = hasExpired and 1 or 0
return result
