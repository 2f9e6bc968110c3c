#!lua flags=allow-oom
-- Finishes items for one recipient, whether they wait or are held.
-- KEYS  1 records  2 state  3 expiring  4 publisher  5 one that never exists  6 waiting  7 leased  8 due  9 attempts  10 expiry
--       11 counters
-- ARGV  1 number of the batch  2 number of the batch it must not overtake, or 0  3 slot for the result
--       4 recipient, as in keys  5… stored ids, at most 500
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

-- The tickets by which the recipient may have the items, and which item each is of.
local tickets, numbers, seen = {}, {}, {}
local ids = { unpack(ARGV, 5) }
for i, record in ipairs(redis.call('HMGET', KEYS[1], unpack(ids))) do
  local read = record and not seen[ids[i]] and readRecord(record)
  seen[ids[i]] = true
  if read and (read.recipient == '*' or read.recipient == inbox.recipient) then
    for _, ticket in ipairs(ticketsOf(read, ids[i])) do
      tickets[#tickets + 1], numbers[#numbers + 1] = ticket, i
    end
  end
end
if #tickets == 0 then
  return remember(KEYS[4], ARGV[1], ARGV[3], 'OK', now, putOffMs)
end

-- What has expired, and nobody holds, there is nothing to finish of.
local held = redis.call('ZMSCORE', inbox.leased, unpack(tickets))
local waiting = redis.call('ZMSCORE', inbox.waiting, unpack(tickets))
local due = redis.call('ZMSCORE', inbox.due, unpack(tickets))
local finished, acked, ackedIds, ended = { 'OK' }, {}, {}, {}
for i, ticket in ipairs(tickets) do
  local expiresAt = expiryOf(ticket)
  if held[i] or ((waiting[i] or due[i]) and not (expiresAt and expiresAt <= now)) then
    acked[#acked + 1], ackedIds[#ackedIds + 1] = ticket, ids[numbers[i]]
    finished[#finished + 1] = numbers[i]
  elseif waiting[i] or due[i] then
    ended[#ended + 1] = ticket
  end
end
local begun = #acked > 0 and begunOf(inbox, acked)
local isHeld = #acked > 0 and redis.call('ZMSCORE', inbox.leased, unpack(acked))
for _, key in ipairs({ inbox.leased, inbox.waiting, inbox.due }) do
  redis.call('ZREM', key, unpack(tickets))
end
if #acked > 0 then
  for i, attempts in ipairs(begun) do
    begun[i] = attempts + (isHeld[i] and 1 or 0)
  end
  redis.call('HDEL', inbox.attempts, unpack(acked))
  redis.call('ZREM', inbox.expiry, unpack(acked))
  finish(inbox.recipient, acked, ackedIds, 'acked', begun)
end
if #ended > 0 then
  redis.call('HINCRBY', inbox.counters, 'unreported', #endExpired(inbox, ended))
end
return remember(KEYS[4], ARGV[1], ARGV[3], table.concat(finished, ' '), now, putOffMs)
