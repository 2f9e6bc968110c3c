-- Stores what outcomes answer, for recipients that are registered. Replies are six words each from ARGV `REPLIES` on: id,
-- record without the line, "<place in this call>|<priority>|", minus the priority, time to live in ms, recipient; their keys
-- are three each from KEYS 14 on: waiting, bell, expiry.
--@ handing
--@ dedupe
local generations = { PREFIX .. 'ids:0', PREFIX .. 'ids:1' }
local line

-- Stores the reply of that number, unless its id is known or nobody waits for it.
return function(reply)
  local at, own = REPLIES + (reply - 1) * 6, 14 + (reply - 1) * 3
  local id, recipient = ARGV[at], ARGV[at + 5]
  local lapsesAt = redis.call('ZSCORE', PREFIX .. 'lapses', recipient)
  if not lapsesAt or tonumber(lapsesAt) <= now then
    return
  end
  local isKnown = redis.call('HEXISTS', KEYS[1], id) == 1 or (state[4] and lookUpIds(generations, { id })[1])
  if isKnown or (records and records.keepsThem and records.areHeld({ id })[1]) then
    return
  end
  line = line or nextLine(KEYS[2], tonumber(state[3] or 0), now)
  local expiresAt, tail = string.format('%.0f', now + ARGV[at + 4]), ARGV[at + 2]
  local place = toBase36(line, 9) .. string.sub(tail, 1, 3)
  local ticket = place .. expiresAt .. string.sub(tail, 4) .. id
  redis.call('HSET', KEYS[1], id, '\1' .. expiresAt .. lineBytes(line) .. ARGV[at + 1])
  local inbox = { recipient = recipient, waiting = KEYS[own], bell = KEYS[own + 1], expiry = KEYS[own + 2] }
  inbox.expiring = KEYS[3]
  handOut(inbox, { waiting = { ARGV[at + 3], ticket }, due = {}, expiry = { expiresAt, ticket } })
  if isForAnswers(recipient) then
    countAnswers(1)
  elseif records and records.isIndexed then
    records.add({ place .. id }, {})
  end
end
