#!lua flags=allow-oom
-- Removes items for all their recipients, and kept records. Of those that several recipients may have, tickets are left, which
-- nobody is handed any more: queue-withdraw.lua.
-- KEYS  1 records  2 state  3 one that never exists  4 publisher
-- ARGV  1 number of the batch  2 number of the batch it must not overtake, or 0  3 slot for the result
--       4 "1" when what has expired was ended, or "0"  5… stored ids, at most 1000
-- Reply "OK", how many there were, and the numbers of ids whose items have expired, to be ended first; behind it, each on a
--         line, the tickets of those that several may have; GAP or FORGOTTEN
--@ publisher
--@ keyspace
--@ slices
--@ inboxes
--@ clock
--@ names
--@ tickets
--@ line
--@ record
local earlier, putOffMs = earlierResult(KEYS[4], tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3])
if earlier then
  return earlier
end
local now = nowMs()
local stored = redis.call('HGET', KEYS[2], 'records')
local settings = stored and stored ~= '' and cjson.decode(stored)
--@ finishing
--@ fanning
local count, left, overdue = 0, {}, {}
local isOut, anyOut = {}, false

local function removeOpen(number, id, record)
  local read = readRecord(record)
  if not read then
    -- Of an earlier build: whoever meets its ticket finds that it is gone.
    redis.call('HDEL', KEYS[1], id)
    count = count + 1
    return
  end
  if ARGV[4] == '0' and tonumber(read.expiresAt) and tonumber(read.expiresAt) <= now then
    overdue[#overdue + 1] = number
    return
  end
  local tickets, member = ticketsOf(read, id), read.place .. id
  if read.recipient == '*' then
    for _, ticket in ipairs(tickets) do
      left[#left + 1] = ticket
    end
    redis.call('HDEL', PREFIX .. 'shares', member)
    isOut[id], anyOut = true, true
  else
    local inbox = inboxOf(read.recipient)
    for _, key in ipairs({ inbox.waiting, inbox.leased, inbox.due, inbox.expiry }) do
      redis.call('ZREM', key, tickets[1])
    end
    redis.call('HDEL', inbox.attempts, tickets[1])
  end
  if isForAnswers(read.recipient) then
    countAnswers(-1)
  elseif records then
    records.remove({ member }, { id })
    redis.call('HDEL', PREFIX .. 'outcomes', id)
  end
  redis.call('HDEL', KEYS[1], id)
  count = count + 1
end

for i = 5, #ARGV do
  local id = ARGV[i]
  local record = redis.call('HGET', KEYS[1], id)
  if record then
    removeOpen(i - 4, id, record)
  elseif records and records.keepsThem and records.areHeld({ id })[1] then
    records.forgetKept({ readRecord(redis.call('HGET', PREFIX .. 'finished', id)).place .. id })
    count = count + 1
  end
end
-- Nor is it handed out any further.
for _, name in ipairs(anyOut and intents() or {}) do
  writeBatch(name, withoutItems(readBatch(name), isOut))
end
table.insert(left, 1, table.concat({ 'OK', count, unpack(overdue) }, ' '))
return remember(KEYS[4], ARGV[1], ARGV[3], table.concat(left, '\n'), now, putOffMs)
