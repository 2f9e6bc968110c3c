#!lua
-- Stores a batch of items, all or none, except for ids that the queue holds or remembers.
-- KEYS  1 records  2 state  3 expiring  4 publisher  5 one that never exists
--       then for each recipient that is named, in the order of ARGV, 6… waiting, due, bell, expiry
-- ARGV  1 number of the batch  2 number of the batch it must not overtake, or 0  3 slot for the result
--       4 maxItems  5 "drop-oldest", or what else is done when there are more
--       6 what is believed to be kept of items, as JSON, or ""
--       7 what the items have besides: "t" a delay and a time to live, "f" fields; any of these letters
--       8 which of the items have ids to be remembered: their numbers with spaces between, or ""
--       9 how many ids a generation holds  10 how long it lasts, in ms  11 how many items  12 1 when any is for an audience
--       13 what the publisher wants kept of items, as JSON, or "": stored where nothing is, and the queue holds nothing
--       14 "new" when all of the ids were just made  15 the items' places in the batch, three digits each
--       then for each recipient its name as in keys, or "*registered" or "*online", how many items it gets, and of these
--       "<priority> <minus the priority> <how many have it> " for each priority; and for each of those items, in this order,
--       its id and its record without the line; with "t" its delay in ms, and its time to live in ms or ""; with "f" its
--       fields and values as in lib/recording.lua
-- Reply "OK", or "OK+" where something is left for others to look after: recipients that have lapsed, or items that are not
--         handed out to all; and the numbers of the duplicates. Behind a "|" for each audience how many recipients it has
--         been so far, and where these are not all, the name of the intent for the rest, and between which numbers they are.
--         When nothing was stored GAP, FORGOTTEN, LIMIT, "LAPSED" and recipients that have, or "SETTINGS" and what is kept
--@ publisher
--@ keyspace
--@ slices
--@ clock
--@ line
--@ bell
--@ handing
--@ answers
local now = nowMs()
local count, isTimed = tonumber(ARGV[11]), string.byte(ARGV[7]) == 116
local PLACES, FIRST = ARGV[15], 16
local stride = 2 + (isTimed and 2 or 0) + (string.byte(ARGV[7], -1) == 102 and 1 or 0)

local earlier, putOffMs = earlierResult(KEYS[4], tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3])
if earlier then
  return earlier
end
local function decide(result)
  return remember(KEYS[4], ARGV[1], ARGV[3], result, now, putOffMs)
end

local state = redis.call('HMGET', KEYS[2], 'line', 'records', 'ids', 'registered', 'fanout', 'answers')
local stored = state[2] or ''
-- Without the answers, which fill no queue.
local held = redis.call('HLEN', KEYS[1]) - (state[6] or 0)
local isWanted = stored == '' and ARGV[13] ~= '' and held + redis.call('ZCARD', PREFIX .. 'kept') == 0
if isWanted then
  stored = ARGV[13]
end
if stored ~= ARGV[6] then
  return decide('SETTINGS ' .. stored)
end
if isWanted then
  redis.call('HSET', KEYS[2], 'records', stored)
end

-- The recipients: name, number of the first item, where its words begin, how many items of which priorities, and which
-- keys are its own.
local groups, names, ids, hasAnswers = {}, {}, {}, false
local at, nextKey, item = FIRST, 6, 0
while at < #ARGV do
  local name, items = ARGV[at], tonumber(ARGV[at + 1])
  local group = { name = name, first = item + 1, at = at + 3, items = items, priorities = ARGV[at + 2], key = nextKey }
  groups[#groups + 1] = group
  if string.byte(name) == 42 then
    group.audience = string.sub(name, 2)
  else
    nextKey = nextKey + 4
    if name ~= '' then
      names[#names + 1] = name
      group.areAnswers = isForAnswers(name)
      hasAnswers = hasAnswers or group.areAnswers
    end
  end
  for i = group.at, group.at + (items - 1) * stride, stride do
    item = item + 1
    ids[item] = ARGV[i]
  end
  at = group.at + items * stride
end

-- What is pushed to one that has lapsed is for whoever comes by that name later: first it has to be forgotten.
if #names > 0 then
  local lapsed = {}
  for from = 1, #names, SLICE do
    local to = math.min(from + SLICE - 1, #names)
    for i, lapsesAt in ipairs(redis.call('ZMSCORE', PREFIX .. 'lapses', unpack(names, from, to))) do
      lapsed[#lapsed + 1] = lapsesAt and tonumber(lapsesAt) <= now and names[from + i - 1] or nil
    end
  end
  if #lapsed > 0 then
    return decide('LAPSED ' .. table.concat(lapsed, ' '))
  end
end

-- Ids that were just made are the queue's only when all of them came before, in this same batch: the last tells. Where
-- ids of callers are remembered, one of them may be one of these, given again by whoever did not hear of it.
local areNew = ARGV[14] == 'new' and not state[3] and redis.call('HEXISTS', KEYS[1], ids[count]) == 0
-- Numbers of the items whose ids the queue holds.
local isDuplicate, hasDuplicates = {}, false
for from = 1, areNew and 0 or count, SLICE do
  local to = math.min(from + SLICE - 1, count)
  local found = redis.call('HMGET', KEYS[1], unpack(ids, from, to))
  for i = 1, #found do
    if found[i] then
      isDuplicate[from + i - 1], hasDuplicates = true, true
    end
  end
end

local lineText, lineStart
-- Ids and records by turns. Appending by a count is quicker than by the length, which is looked for each time.
local toStore, words = {}, 0
local function getInLine()
  local line = nextLine(KEYS[2], tonumber(state[1] or 0), now)
  lineText, lineStart = toBase36(line, 9), lineBytes(line)
end

-- The tickets of a group's new items; their records are stored later.
local function batchOf(group)
  local waiting, due, expiry, waits = {}, {}, {}, 0
  local item, i, mark = group.first - 1, group.at - stride, group.audience and '*' or ''
  for priority, score, size in string.gmatch(group.priorities, '(%S+) (%S+) (%d+)') do
    local middle = '|' .. priority .. '|'
    for _ = 1, tonumber(size) do
      item, i = item + 1, i + stride
      if not isDuplicate[item] then
        local id, ttl = ARGV[i], isTimed and ARGV[i + 3] or ''
        local place = string.sub(PLACES, 3 * item - 2, 3 * item)
        local ticket, record
        if ttl == '' and mark == '' then
          ticket = lineText .. place .. middle .. id
          record = lineStart .. ARGV[i + 1]
        else
          local expiresAt = ttl ~= '' and string.format('%.0f', now + ttl) or ''
          ticket = lineText .. place .. mark .. expiresAt .. middle .. id
          record = (ttl ~= '' and '\1' .. expiresAt or '') .. lineStart .. ARGV[i + 1]
          if ttl ~= '' then
            expiry[#expiry + 1] = expiresAt
            expiry[#expiry + 1] = ticket
          end
        end
        toStore[words + 1], toStore[words + 2] = id, record
        words = words + 2
        local delay = isTimed and tonumber(ARGV[i + 2]) or 0
        if delay > 0 then
          due[#due + 1] = string.format('%.0f', now + delay)
          due[#due + 1] = ticket
        else
          waiting[waits + 1], waiting[waits + 2] = score, ticket
          waits = waits + 2
        end
      end
    end
  end
  return { waiting = waiting, due = due, expiry = expiry }
end

local function handOutTo(group, batch)
  local key = group.key
  local inbox = { recipient = group.name, waiting = KEYS[key], due = KEYS[key + 1], bell = KEYS[key + 2] }
  inbox.expiry, inbox.expiring = KEYS[key + 3], KEYS[3]
  handOut(inbox, batch)
end

local function noteNames()
  local members = {}
  for i, name in ipairs(names) do
    members[2 * i - 1], members[2 * i] = '0', name
  end
  callWith('ZADD', PREFIX .. 'inboxes', members)
end

-- The usual case needs nothing of what follows.
local excess = held + count - tonumber(ARGV[4])
local isUsual = stored == '' and ARGV[8] == '' and ARGV[12] == '0' and not state[3]
if isUsual and not hasAnswers and not hasDuplicates and excess <= 0 then
  getInLine()
  for _, group in ipairs(groups) do
    handOutTo(group, batchOf(group))
  end
  callWith('HSET', KEYS[1], toStore)
  noteNames()
  return decide('OK')
end

local settings = stored ~= '' and cjson.decode(stored)
--@ names
--@ inboxes
--@ tickets
--@ attempts
--@ record
--@ finishing
--@ dedupe
--@ fanning
--@ dropping

local generations = { PREFIX .. 'ids:0', PREFIX .. 'ids:1' }
for i, value in ipairs(state[3] and lookUpIds(generations, ids) or {}) do
  isDuplicate[i] = isDuplicate[i] or value and true
end
if records and records.keepsThem then
  records.trim()
  for from = 1, count, SLICE do
    for i, isHeld in ipairs(records.areHeld({ unpack(ids, from, math.min(from + SLICE - 1, count)) })) do
      isDuplicate[from + i - 1] = isDuplicate[from + i - 1] or isHeld
    end
  end
end
local duplicates = {}
for i = 1, count do
  duplicates[#duplicates + 1] = isDuplicate[i] and i or nil
end
if #duplicates == count then
  return decide('OK ' .. table.concat(duplicates, ' '))
end

-- Whom the audiences are; items for nobody are not stored.
local isUnfinished, coming, answers = false, 0, 0
for _, group in ipairs(groups) do
  if group.audience then
    group.upto = state[4] or '0'
    group.list, group.after, group.isAll = nextOfAudience(group.audience, '0', group.upto, group.items)
    group.isNobody = group.isAll and #group.list == 0
    isUnfinished = isUnfinished or state[5] and tonumber(state[5]) <= now
      or #redis.call('ZRANGEBYSCORE', PREFIX .. 'lapses', '-inf', now, 'LIMIT', 0, 1) > 0
  end
  for item = group.first, group.first + group.items - 1 do
    local isNew = not isDuplicate[item] and not group.isNobody
    coming = coming + (isNew and not group.areAnswers and 1 or 0)
    answers = answers + (isNew and group.areAnswers and 1 or 0)
  end
end
excess = excess - count + coming
if coming > 0 and excess > 0 and not (ARGV[5] == 'drop-oldest' and dropOldest(groups, excess)) then
  return decide('LIMIT')
end

-- Makes a group's new items findable: `toStore` has them from a word on.
local function addToIndex(group, batch, from)
  local members, tokens = {}, {}
  for i = from, #toStore, 2 do
    members[#members + 1] = readRecord(toStore[i + 1]).place .. toStore[i]
  end
  if stride % 2 == 1 then
    local item = group.first - 1
    for i = group.at, group.at + (group.items - 1) * stride, stride do
      item = item + 1
      tokens[#tokens + 1] = not isDuplicate[item] and ARGV[i + stride - 1] or nil
    end
  end
  records.add(members, tokens)
end

-- Gives an audience its items, as many as one call may; returns how many recipients, and what there is to know of the rest.
local function fanOut(group, batch)
  local count = #group.list
  if #batch.waiting + #batch.due == 0 then
    return '0'
  end
  local given = group.isAll and count or 1 + redis.call('ZCOUNT', PREFIX .. 'audience', '-inf', group.upto)
  local shares = {}
  for _, list in ipairs({ batch.waiting, batch.due }) do
    for i = 2, #list, 2 do
      shares[#shares + 1] = memberOf(list[i], idOf(list[i]))
      shares[#shares + 1] = string.format('%d', given)
    end
  end
  callWith('HSET', PREFIX .. 'shares', shares)
  local result = { string.format('%d', count) }
  if not group.isAll then
    local name = lineText .. group.audience
    local intent = { after = group.after, upto = group.upto, count = count, given = given, audience = group.audience }
    writeBatch(name, batch)
    writeIntent(KEYS[2], name, intent)
    result = { result[1], name, group.after, group.upto }
  end
  handOutToAll(group.list, batch)
  return table.concat(result, ' ')
end

getInLine()
local results = {}
for _, group in ipairs(groups) do
  local from = words + 1
  local batch = not group.isNobody and batchOf(group)
  if group.audience then
    results[#results + 1] = batch and fanOut(group, batch) or '0'
  else
    handOutTo(group, batch)
  end
  if batch and records and records.isIndexed and not group.areAnswers then
    addToIndex(group, batch, from)
  end
end
callWith('HSET', KEYS[1], toStore)
if answers > 0 then
  countAnswers(answers)
end
noteNames()
local new, values = {}, {}
for numeral in string.gmatch(ARGV[8], '%d+') do
  if not isDuplicate[tonumber(numeral)] then
    new[#new + 1], values[#values + 1] = ids[tonumber(numeral)], ''
  end
end
if #new > 0 then
  rememberIds(generations, KEYS[2], state[3], new, values, tonumber(ARGV[9]), tonumber(ARGV[10]), now)
end
table.insert(duplicates, 1, isUnfinished and 'OK+' or 'OK')
table.insert(results, 1, table.concat(duplicates, ' '))
return decide(table.concat(results, '|'))
