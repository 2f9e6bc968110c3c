-- The usual part of queue-take.lua: first deliveries are acknowledged, and others handed out.

-- Acknowledges first deliveries that are still held; the usual case, in which all of them are, takes no detours.
local function acknowledge(from, to)
  local scores = redis.call('ZMSCORE', inbox.leased, unpack(ARGV, from, to))
  local states = hasAttempts and redis.call('HMGET', inbox.attempts, unpack(ARGV, from, to))
  local tickets, ids, known, others, n = {}, {}, {}, {}, 0
  for i = from, to do
    local ticket, text = ARGV[i], states and states[i - from + 1]
    if not scores[i - from + 1] or (text and stateOf(text) ~= 0) then
      lost[#lost + 1] = i - PLAIN + 1
    else
      n = n + 1
      tickets[n], ids[n] = ticket, ARGV[i + plain]
      if text then
        known[#known + 1] = ticket
      end
      if string.byte(ticket, PLACE + 1) ~= BAR then
        others[#others + 1] = ticket
      end
    end
  end
  if n > 0 then
    redis.call('ZREM', inbox.leased, unpack(tickets))
    if settings or areAnswers or #others > 0 then
      local attempts = {}
      for i = 1, n do
        attempts[i] = 1
      end
      ending().finish(inbox.recipient, tickets, ids, 'acked', attempts)
    else
      redis.call('HDEL', KEYS[1], unpack(ids))
    end
  end
  if #known > 0 then
    redis.call('HDEL', inbox.attempts, unpack(known))
  end
  if #others > 0 then
    redis.call('ZREM', inbox.expiry, unpack(others))
  end
end

--@ promoting

-- Hands out tickets that are leased. What has no record any more is gone; of what several had, somebody has removed it.
local function deliver(tickets, ids, states)
  local missing, n = {}, #receipts
  local records = redis.call('HMGET', KEYS[1], unpack(ids))
  for i = 1, #records do
    local record = records[i]
    if record then
      local receipt = tickets[i]
      if states and states[i] then
        local fence, attempt = stateOf(states[i])
        receipt = fence == 0 and receipt or '+' .. fence .. '/' .. attempt .. '/' .. receipt
      end
      n = n + 1
      receipts[n], out[n + 4] = receipt, record
    else
      missing[#missing + 1] = tickets[i]
      gone = gone + (isShared(tickets[i]) and 0 or 1)
    end
  end
  if #missing > 0 then
    redis.call('ZREM', inbox.leased, unpack(missing))
    redis.call('ZREM', inbox.expiry, unpack(missing))
    redis.call('HDEL', inbox.attempts, unpack(missing))
  end
end

-- Notes who holds what, where a dead letter may have to tell.
local function noteHolder(tickets, states)
  if maxAttempts > 1 and not states then
    return
  end
  local words = {}
  for i, ticket in ipairs(tickets) do
    if maxAttempts == 1 or (states and states[i]) then
      local fence, attempt, _, failedAt, putBackAt = stateOf(states and states[i])
      words[#words + 1] = ticket
      words[#words + 1] = fence .. ' ' .. attempt .. failedAt .. putBackAt .. ' ' .. consumer
    end
  end
  callWith('HSET', inbox.attempts, words)
end

-- Leases what was popped from what waits, unless it has expired.
local function lease(popped)
  local tickets, ids, leases, ended, n = {}, {}, {}, {}, 0
  local leaseEnd = string.format('%.0f', now + leaseMs)
  for i = 1, #popped do
    local ticket = popped[i]
    local expiresAt = string.byte(ticket, PLACE + 1) ~= BAR and expiryOf(ticket)
    if expiresAt and expiresAt <= now then
      ended[#ended + 1] = ticket
    else
      n = n + 1
      tickets[n], ids[n] = ticket, idOf(ticket)
      leases[2 * n - 1], leases[2 * n] = leaseEnd, ticket
    end
  end
  if #ended > 0 then
    ending().endExpired(ended)
  end
  if n > 0 then
    callWith('ZADD', inbox.leased, leases)
    local states = hasAttempts and redis.call('HMGET', inbox.attempts, unpack(tickets))
    noteHolder(tickets, states)
    deliver(tickets, ids, states)
  end
end

-- What an earlier call with this copy took whose reply never arrived, as far as this consumer still holds it. It is the last
-- one that took anything with it, and had what others before it lost.
local function takeAgain(firstLost)
  local feed, call, kept = string.match(redis.call('GET', taken) or '', '^(%S+) (%d+)\n(.*)$')
  local tickets, ids, states = {}, {}, {}
  if feed ~= ARGV[7] or tonumber(call) < firstLost then
    return
  end
  for receipt in string.gmatch(kept, '[^\n]+') do
    local fence, ticket = string.match(receipt, '^%+(%d+)/%d+/(.*)$')
    ticket = ticket or receipt
    local text = redis.call('HGET', inbox.attempts, ticket)
    if stateOf(text) == tonumber(fence or 0) and redis.call('ZSCORE', inbox.leased, ticket) then
      tickets[#tickets + 1], ids[#ids + 1], states[#states + 1] = ticket, idOf(ticket), text
    end
  end
  if #tickets > 0 then
    deliver(tickets, ids, states)
  end
end

-- Pops the most urgent tickets. ZPOPMIN would write each one's score as text as well, which takes longer than all else of it.
local function popStrict(room)
  local popped = redis.call('ZRANGE', inbox.waiting, 0, room - 1)
  if #popped > 0 then
    redis.call('ZREMRANGEBYRANK', inbox.waiting, 0, #popped - 1)
  end
  return popped
end

-- Fills the room there is.
local function take(turn, level)
  if ARGV[9] ~= '0' then
    takeAgain(tonumber(ARGV[9]))
  end
  local pop = popStrict
  if string.sub(ARGV[10], 1, 8) == 'weighted' then
    pop = function(room)
--@ weighted
      local popped
      popped, turn, level = popWeighted(inbox, room, turn, level)
      return popped
    end
  end
  for _ = 1, 4 do
    local room = max - #receipts
    if room <= 0 then
      break
    end
    local popped = pop(room)
    lease(popped)
    if #popped < room then
      break
    end
  end
  if #receipts > 0 then
    -- Kept as long as the leases: should the reply be lost, the next call asks for it.
    redis.call('SET', taken, ARGV[7] .. ' ' .. ARGV[8] .. '\n' .. table.concat(receipts, '\n'), 'PX', leaseMs)
  end
end

-- How long until something is ready, in ms, or -1.
local function readyIn()
  if redis.call('EXISTS', inbox.waiting) == 1 then
    -- One bell wakes one consumer, so each wakes the next as long as there is something to take.
    ring(inbox.bell)
    return 0
  end
  local ready = -1
  for _, key in ipairs({ inbox.due, inbox.leased }) do
    local soonest = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')[2]
    local ms = soonest and math.max(0, tonumber(soonest) - now)
    if ms and (ready < 0 or ms < ready) then
      ready = ms
    end
  end
  return ready
end
