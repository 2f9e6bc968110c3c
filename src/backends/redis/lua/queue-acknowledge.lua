#!lua flags=allow-oom
-- Finishes items for one recipient, whether they wait or are held.
-- KEYS  1 records  2 state  3 expiring  4 publisher  5 one that never exists  6 waiting  7 leased  8 due  9 attempts  10 expiry
--       11 counters
-- ARGV  1 number of the batch  2 number of the batch it must not overtake, or 0  3 slot for the result
--       4 recipient, as in keys  5… stored ids, at most 1000
-- Reply "OK" and the numbers of the ids that the recipient had to finish; GAP or FORGOTTEN
--@ publisher
--@ keyspace
--@ slices
--@ clock
--@ names
--@ tickets
--@ attempts
--@ line
--@ record
local inbox = {
  recipient = ARGV[4], expiring = KEYS[3], waiting = KEYS[6], leased = KEYS[7], due = KEYS[8], attempts = KEYS[9],
  expiry = KEYS[10], counters = KEYS[11],
}
local earlier, putOffMs = earlierResult(KEYS[4], tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3])
if earlier then
  return earlier
end
local now = nowMs()
local stored = redis.call('HGET', KEYS[2], 'records')
local settings = stored and stored ~= '' and cjson.decode(stored)
--@ finishing
--@ expiry

-- The ticket by which the recipient has an item, and whether it is held; nil where it does not.
local function ticketOf(id)
  local record = redis.call('HGET', KEYS[1], id)
  local read = record and readRecord(record)
  if not read or (read.recipient ~= '*' and read.recipient ~= inbox.recipient) then
    return nil
  end
  for _, ticket in ipairs(ticketsOf(read, id)) do
    if redis.call('ZREM', inbox.leased, ticket) == 1 then
      return ticket, true
    end
    if redis.call('ZREM', inbox.waiting, ticket) + redis.call('ZREM', inbox.due, ticket) > 0 then
      return ticket, false
    end
  end
  return nil
end

local finished = { 'OK' }
for i = 5, #ARGV do
  local ticket, isHeld = ticketOf(ARGV[i])
  local expiresAt = ticket and expiryOf(ticket)
  if ticket and not isHeld and expiresAt and expiresAt <= now then
    redis.call('HINCRBY', inbox.counters, 'unreported', #endExpired(inbox, { ticket }))
  elseif ticket then
    local begun = begunOf(inbox, { ticket })
    begun[1] = begun[1] + (isHeld and 1 or 0)
    redis.call('HDEL', inbox.attempts, ticket)
    redis.call('ZREM', inbox.expiry, ticket)
    finish(inbox.recipient, { ticket }, { ARGV[i] }, 'acked', begun)
    finished[#finished + 1] = i - 4
  end
end
return remember(KEYS[4], ARGV[1], ARGV[3], table.concat(finished, ' '), now, putOffMs)
