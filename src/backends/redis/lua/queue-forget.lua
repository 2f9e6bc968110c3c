#!lua flags=allow-oom
-- Forgets what a recipient has, a slice at a time, and then the recipient itself.
-- KEYS  1 records  2 state  3 expiring  4 one that never exists  5 recipients  6 registrations  7 audience  8 lapses  9 online
--       10 inboxes  11 waiting  12 leased  13 due  14 attempts  15 expiry  16 counters  17 dead  18 bell  19 listeners
-- ARGV  1 recipient, as in keys  2 "unregister"; "lapse" does nothing unless it has lapsed; "empty" leaves it registered
-- Reply 1 1 when it has to be called again, and then no more  2 1 when it was registered  3 1 when it belonged to the audience
--       4 how many unfinished items and dead letters there were  5 how many items nobody has now, of this slice
--@ keyspace
--@ slices
--@ clock
--@ names
--@ tickets
--@ attempts
--@ line
--@ record
--@ bell
local ITEMS_AT_ONCE = 500
local recipient, mode = ARGV[1], ARGV[2]
local inbox = {
  recipient = recipient, expiring = KEYS[3], waiting = KEYS[11], leased = KEYS[12], due = KEYS[13], attempts = KEYS[14],
  expiry = KEYS[15], counters = KEYS[16],
}
local counters = inbox.counters

local now = nowMs()
local stored = redis.call('HGET', KEYS[2], 'records')
local settings = stored and stored ~= '' and cjson.decode(stored)
--@ finishing
--@ expiry
local lapsesAt = redis.call('ZSCORE', KEYS[8], recipient)
if mode == 'lapse' and not (lapsesAt and tonumber(lapsesAt) <= now) then
  return { 0, 0, 0, 0, 0 }
end
local wasAudience = redis.call('HGET', counters, 'forgotten')
wasAudience = wasAudience and string.sub(wasAudience, 1, 1) == '1' or redis.call('ZSCORE', KEYS[7], recipient) and true

-- Nothing new comes for it meanwhile.
if mode ~= 'empty' then
  redis.call('ZREM', KEYS[7], recipient)
end
-- What has expired is not lost.
local expired, moreExpired = expireWaiting(inbox)
local over, count = #expired, 0
for _, key in ipairs(moreExpired and {} or { inbox.waiting, inbox.leased, inbox.due }) do
  local tickets = count < ITEMS_AT_ONCE and redis.call('ZRANGE', key, 0, ITEMS_AT_ONCE - count - 1) or {}
  if #tickets > 0 then
    local ids = {}
    for i, ticket in ipairs(tickets) do
      ids[i] = idOf(ticket)
    end
    redis.call('ZREM', key, unpack(tickets))
    redis.call('ZREM', inbox.expiry, unpack(tickets))
    redis.call('HDEL', inbox.attempts, unpack(tickets))
    if mode == 'empty' then
      -- A queue that is cleared keeps no record of what others have finished.
      redis.call('HDEL', PREFIX .. 'outcomes', unpack(ids))
    end
    over = over + finish(recipient, tickets, ids)
    count = count + #tickets
  end
end
local before = tonumber(string.match(redis.call('HGET', counters, 'forgotten') or '0 0', '%d+$'))
if moreExpired or count == ITEMS_AT_ONCE then
  redis.call('HSET', counters, 'forgotten', (wasAudience and '1 ' or '0 ') .. before + count)
  return { 1, 0, 0, 0, over }
end
local lost = before + count + redis.call('XLEN', KEYS[17])
redis.call('UNLINK', inbox.expiry, inbox.attempts, KEYS[17])
redis.call('ZREM', KEYS[3], decodeName(recipient))
if mode == 'empty' then
  redis.call('HDEL', counters, 'forgotten')
  if not lapsesAt then
    redis.call('ZREM', KEYS[10], recipient)
  end
else
  redis.call('UNLINK', counters, KEYS[19])
  redis.call('HDEL', KEYS[6], recipient)
  for _, key in ipairs({ KEYS[5], KEYS[8], KEYS[9], KEYS[10] }) do
    redis.call('ZREM', key, recipient)
  end
  ring(KEYS[18])
end
return { 0, lapsesAt and 1 or 0, wasAudience and 1 or 0, lost, over }
