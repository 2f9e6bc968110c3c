#!lua
-- Puts dead letters of a recipient back in line, each in one step, unless the queue holds another item of that id. The item
-- is for this recipient alone then, or for it as well, where others still have to finish it; it does not expire any more.
-- KEYS  1 records  2 state  3 one that never exists  4 publisher  5 dead  6 waiting  7 leased  8 due  9 bell  10 attempts
-- ARGV  1 number of the batch  2 number of the batch it must not overtake, or 0  3 slot for the result
--       4 recipient, as in keys  5… ids of letters, at most 1000
-- Reply how many of the ids were looked at, from the first on, how many letters were moved, and how many were not because
--         of an item; GAP or FORGOTTEN
--@ publisher
--@ keyspace
--@ slices
--@ clock
--@ names
--@ positions
--@ tickets
--@ line
--@ record
--@ bell
local dead, recipient = KEYS[5], ARGV[4]
local inbox = { waiting = KEYS[6], leased = KEYS[7], due = KEYS[8] }
-- The call ends when it has moved so much.
local MAX_BYTES = 1000000

local earlier, putOffMs = earlierResult(KEYS[4], tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3])
if earlier then
  return earlier
end
local now = nowMs()
local state = redis.call('HMGET', KEYS[2], 'records', 'line')
local settings = state[1] and state[1] ~= '' and cjson.decode(state[1])
--@ finishing
local line, moved

-- A ticket that was handed out before is so again, behind all that was: its old receipts stay lost.
local function putBackInLine(ticket, letter)
  redis.call('HSET', KEYS[10], ticket, string.format('%d 1', (letter.n or 0) + 1))
  redis.call('ZADD', inbox.waiting, scoreOf(ticket), ticket)
end

-- The recipient's own letter is no outcome any more.
local function takeBack(id)
  local text = records and records.keepsThem and redis.call('HGET', PREFIX .. 'outcomes', id)
  if not text then
    return
  end
  local counts, at, lines = records.read(text)
  counts[2] = math.max(0, counts[2] - 1)
  local start = '\n' .. recipient .. ' dead '
  local from = string.find('\n' .. lines, start, 1, true)
  if from then
    lines = string.sub(lines, 1, from - 1) .. string.sub(lines, string.find(lines, '\n', from, true) + 1)
  end
  redis.call('HSET', PREFIX .. 'outcomes', id, records.write(counts, at, lines))
end

-- Adds to what others still have to finish; false where it is another item, or this recipient has it.
local function share(record, letter)
  local read = readRecord(record)
  if not read or read.recipient ~= '*' or string.sub(record, read.start) ~= letter.m then
    return false
  end
  local tickets = ticketsOf(read, letter.p)
  for _, ticket in ipairs(tickets) do
    for _, key in pairs(inbox) do
      if redis.call('ZSCORE', key, ticket) then
        return false
      end
    end
  end
  redis.call('HINCRBY', PREFIX .. 'shares', memberOf(tickets[1], letter.p), 1)
  takeBack(letter.p)
  putBackInLine(tickets[#tickets], letter)
  return true
end

-- A kept record is an item again, where it was; false where it is the record of another item.
local function reopen(record, letter)
  local read = readRecord(record)
  if string.sub(record, read.start) ~= letter.m or (read.recipient ~= '*' and read.recipient ~= recipient) then
    return false
  end
  local id, member = letter.p, read.place .. letter.p
  local counts = records.read(redis.call('HGET', PREFIX .. 'outcomes', id))
  redis.call('HSET', KEYS[1], id, read.expiresAt == '' and record or string.sub(record, #read.expiresAt + 2))
  redis.call('HDEL', PREFIX .. 'finished', id)
  redis.call('ZREM', PREFIX .. 'kept', member)
  if records.isIndexed then
    redis.call('ZREM', records.indexKey(records.outcomeOf(counts)), member)
  end
  takeBack(id)
  if read.recipient == '*' then
    redis.call('HSET', PREFIX .. 'shares', member, '1')
  end
  read.expiresAt = ''
  putBackInLine(ticketsOf(read, id)[1], letter)
  return true
end

local function store(letter)
  line = line or nextLine(KEYS[2], tonumber(state[2] or 0), now)
  -- Letters of earlier builds do not know their priority, nor when they were pushed.
  local tail = toBase36(moved, 3) .. '|' .. (letter.pr or '0') .. '|'
  local at = letter.t and '@' .. letter.t or ''
  local record = lineBytes(line) .. '\127\127' .. tail .. recipient .. at .. '\n' .. letter.m
  local ticket = toBase36(line, 9) .. tail .. letter.p
  redis.call('HSET', KEYS[1], letter.p, record)
  redis.call('ZADD', inbox.waiting, scoreOf(ticket), ticket)
  if isForAnswers(recipient) then
    countAnswers(1)
  elseif records and records.isIndexed then
    records.add({ string.sub(ticket, 1, PLACE) .. letter.p }, { records.fieldsOf(letter.x) })
  end
end

-- Returns false when some item or record is in the way.
local function putBack(letter)
  local record = redis.call('HGET', KEYS[1], letter.p)
  if record then
    return share(record, letter)
  end
  if records and records.keepsThem and records.areHeld({ letter.p })[1] then
    return reopen(redis.call('HGET', PREFIX .. 'finished', letter.p), letter)
  end
  store(letter)
  return true
end

local looked, held, bytes = 0, 0, 0
moved = 0
for i = 5, #ARGV do
  local entry = redis.call('XRANGE', dead, ARGV[i], ARGV[i])[1]
  looked = looked + 1
  local letter = entry and fieldsOf(entry[2])
  if letter and not putBack(letter) then
    held = held + 1
  elseif letter then
    redis.call('XDEL', dead, ARGV[i])
    moved, bytes = moved + 1, bytes + #letter.m
  end
  if bytes >= MAX_BYTES then
    break
  end
end
if moved > 0 then
  ring(KEYS[9])
  if recipient ~= '' then
    redis.call('ZADD', PREFIX .. 'inboxes', 0, recipient)
  end
end
return remember(KEYS[4], ARGV[1], ARGV[3], table.concat({ looked, moved, held }, ' '), now, putOffMs)
