-- The part of queue-take.lua that settles outcomes other than the usual one, and puts back what nobody holds any more.

local function noteExpired(ids)
  expired = expired + #ids
  for _, id in ipairs(ids) do
    expiredIds[#expiredIds + 1] = id
  end
end

-- The first failure as `attempts` has it, where it may be now.
local function firstFailure(failedAt)
  return failedAt ~= '' and failedAt or '@' .. string.format('%.0f', now)
end

local function forget(ticket)
  redis.call('HDEL', inbox.attempts, ticket)
  redis.call('ZREM', inbox.expiry, ticket)
end

-- Puts a ticket that nobody holds any more back in line, or to wait until it is due. `isHeard`: whoever called is told.
local function giveBack(ticket, known, dueAt, isHeard)
  hasAttempts = true
  redis.call('HSET', inbox.attempts, ticket, known)
  local expiresAt = expiryOf(ticket)
  if expiresAt and expiresAt <= now then
    local ids = endExpired(inbox, { ticket })
    if isHeard then
      noteExpired(ids)
    else
      redis.call('HINCRBY', inbox.counters, 'unreported', 1)
    end
    return
  end
  if expiresAt then
    redis.call('ZADD', inbox.expiry, expiresAt, ticket)
    redis.call('ZADD', inbox.expiring, 'LT', expiresAt, decodeName(inbox.recipient))
  end
  if dueAt <= now then
    redis.call('ZADD', inbox.waiting, scoreOf(ticket), ticket)
    return
  end
  local soonest = redis.call('ZRANGE', inbox.due, 0, 0, 'WITHSCORES')[2]
  redis.call('ZADD', inbox.due, dueAt, ticket)
  -- Whoever waits has to know of something earlier to wait for.
  if not soonest or dueAt < tonumber(soonest) then
    ring(inbox.bell)
  end
end

-- The letter keeps the fence: what is redriven goes on behind it, so that receipts from before are worth nothing.
local function bury(ticket, fence, attempt, holder, reason, failedAt)
  local id = idOf(ticket)
  local record = redis.call('HGET', KEYS[1], id)
  if record then
    local read = readRecord(record)
    local pushedAt = read and (read.at or timeOfPlace(read.place))
    local fields = records and records.isIndexed and redis.call('HGET', PREFIX .. 'fields', id)
    local words = { 'p', id, 'a', attempt, 'c', holder, 'r', reason, 'pr', priorityOf(ticket) }
    for name, value in pairs({ m = read and string.sub(record, read.start) or record, t = pushedAt, x = fields or nil,
      f = failedAt ~= '' and string.sub(failedAt, 2) or nil, n = fence > 0 and fence or nil }) do
      words[#words + 1], words[#words + 2] = name, value
    end
    redis.call('XADD', inbox.dead, 'MAXLEN', '=', ARGV[5], '*', unpack(words))
  else
    gone = gone + 1
  end
  finish(inbox.recipient, { ticket }, { id }, record and 'dead' or nil, { attempt })
  forget(ticket)
end

local storeReply
local function openReplies()
--@ answering
end

-- Settles the outcome whose words begin there; returns false when it comes too late.
local function settle(i)
  local kind, ticket, fence, a, b, reply = unpack(ARGV, i, i + 5)
  local text = hasAttempts and redis.call('HGET', inbox.attempts, ticket)
  local current, attempt, _, failedAt, putBackAt = stateOf(text)
  if current ~= tonumber(fence) or redis.call('ZREM', inbox.leased, ticket) == 0 then
    return false
  end
  if kind == 'dead' then
    bury(ticket, current, attempt, consumer, a, failedAt)
  elseif kind == 'ack' then
    finish(inbox.recipient, { ticket }, { idOf(ticket) }, 'acked', { attempt })
    forget(ticket)
  else
    failedAt = b == '1' and firstFailure(failedAt) or failedAt
    putBackAt = kind == 'retry' and '+' .. string.format('%.0f', now) or putBackAt
    local known = current + 1 .. ' ' .. attempt + tonumber(b) .. failedAt .. putBackAt
    giveBack(ticket, known, now + tonumber(a), kind == 'retry')
  end
  if reply ~= '' then
    storeReply = storeReply or openReplies()
    storeReply(tonumber(reply))
  end
  return true
end

-- Takes back leases that have run out.
local function sweep(abandoned)
  for _, ticket in ipairs(abandoned) do
    local text = redis.call('HGET', inbox.attempts, ticket)
    local fence, attempt, holder, failedAt, putBackAt = stateOf(text)
    local expiresAt = expiryOf(ticket)
    redis.call('ZREM', inbox.leased, ticket)
    if attempt < maxAttempts or (expiresAt and expiresAt <= now) then
      giveBack(ticket, fence + 1 .. ' ' .. attempt + 1 .. firstFailure(failedAt) .. putBackAt, now, true)
    else
      local message = 'no consumer finished it in ' .. attempt .. ' attempts'
      bury(ticket, fence, attempt, holder, cjson.encode({ kind = 'abandoned', message = message }), failedAt)
      poisoned = poisoned + 1
    end
  end
end

return {
  settle = settle, sweep = sweep, finish = finish,
  expire = function() noteExpired((expireWaiting(inbox))) end,
  endExpired = function(tickets) noteExpired(endExpired(inbox, tickets)) end,
  trim = function() return records.keepsThem and records.trim() end,
}
