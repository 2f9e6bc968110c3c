#!lua
-- Stores a batch of items, all or none, except for ids that the queue holds or remembers.
-- KEYS  1 records  2 state  3 expiring  4 publisher  5 one that never exists
--       then for each recipient that is named, in the order of ARGV, 6… waiting, due, bell, expiry
-- ARGV  1 number of the batch  2 number of the batch it must not overtake, or 0  3 slot for the result
--       4 maxItems  5 "drop-oldest", or what else is done when there are more
--       6 what is believed to be kept of items, as JSON, or ""
--       7 what the items have besides: "t" a delay and a time to live, "f" fields; any of these letters
--       8 which of the items have ids to be remembered: their numbers with spaces between, or ""
--       9 how many ids a generation holds  10 how long it lasts, in ms  11 how many items
--       then for each recipient its name as in keys, or "*registered" or "*online", and how many items it gets,
--       and for each of those its id, its record without the line, "<place in the batch>|<priority>|", minus its priority;
--       with "t" its delay in ms, and its time to live in ms or ""; with "f" its fields and values as in lib/recording.lua
-- Reply "OK", or "OK+" where something is left for others to look after: recipients that have lapsed, or items that are not
--         handed out to all; and the numbers of the duplicates. Behind a "|" for each audience how many recipients it has
--         been so far, and where these are not all, the name of the intent for the rest.
--         When nothing was stored GAP, FORGOTTEN, LIMIT, "LAPSED" and recipients that have, or "SETTINGS" and what is kept
--@ publisher
--@ keyspace
--@ names
--@ tickets
--@ line
--@ record
--@ bell
--@ handing
local now = nowMs()
local number, slot, count = ARGV[1], ARGV[3], tonumber(ARGV[11])
local isTimed, hasFields = string.find(ARGV[7], 't', 1, true), string.find(ARGV[7], 'f', 1, true)
local FIRST = 12
local stride = 4 + (isTimed and 2 or 0) + (hasFields and 1 or 0)

local earlier, putOffMs = earlierResult(KEYS[4], tonumber(number), tonumber(ARGV[2]), slot)
if earlier then
  return earlier
end
local function decide(result)
  return remember(KEYS[4], number, slot, result, now, putOffMs)
end

local state = redis.call('HMGET', KEYS[2], 'line', 'records', 'ids', 'registered', 'fanout')
local stored = state[2] or ''
if stored ~= ARGV[6] then
  return decide('SETTINGS ' .. stored)
end
local settings = stored ~= '' and cjson.decode(stored)
--@ finishing

-- The recipients: name, number of the first item, where its words begin, how many items, and which keys are its own.
local groups, names, ids, hasAudience = {}, {}, {}, false
do
  local at, key = FIRST, 6
  while at < #ARGV do
    local name, items = ARGV[at], tonumber(ARGV[at + 1])
    local group = { name = name, first = #ids + 1, at = at + 2, items = items, key = key }
    if string.byte(name) == STAR then
      group.audience, hasAudience = string.sub(name, 2), true
    else
      key = key + 4
      if name ~= '' then
        names[#names + 1] = name
      end
    end
    groups[#groups + 1] = group
    for i = at + 2, at + 1 + items * stride, stride do
      ids[#ids + 1] = ARGV[i]
    end
    at = at + 2 + items * stride
  end
end

-- What is pushed to one that has lapsed is for whoever comes by that name later: first it has to be forgotten.
local lapsed = {}
for from = 1, #names, SLICE do
  local to = math.min(from + SLICE - 1, #names)
  for i, at in ipairs(redis.call('ZMSCORE', PREFIX .. 'lapses', unpack(names, from, to))) do
    lapsed[#lapsed + 1] = at and tonumber(at) <= now and names[from + i - 1] or nil
  end
end
if #lapsed > 0 then
  return decide('LAPSED ' .. table.concat(lapsed, ' '))
end

if records and records.keepsThem then
  records.trim()
end

local duplicates, isDuplicate = {}, {}
for from = 1, count, SLICE do
  local to = math.min(from + SLICE - 1, count)
  for i, record in ipairs(redis.call('HMGET', KEYS[1], unpack(ids, from, to))) do
    isDuplicate[from + i - 1] = record and true
  end
end
local function findKnown()
--@ dedupe
  local generations = { PREFIX .. 'ids:0', PREFIX .. 'ids:1' }
  for i, value in ipairs(state[3] and lookUpIds(generations, ids) or {}) do
    isDuplicate[i] = isDuplicate[i] or value and true
  end
  for from = 1, records and records.keepsThem and count or 0, SLICE do
    for i, isHeld in ipairs(records.areHeld({ unpack(ids, from, math.min(from + SLICE - 1, count)) })) do
      isDuplicate[from + i - 1] = isDuplicate[from + i - 1] or isHeld
    end
  end
  return function()
    local new, values = {}, {}
    for numeral in string.gmatch(ARGV[8], '%d+') do
      if not isDuplicate[tonumber(numeral)] then
        new[#new + 1], values[#values + 1] = ids[tonumber(numeral)], ''
      end
    end
    if #new > 0 then
      rememberIds(generations, KEYS[2], state[3], new, values, tonumber(ARGV[9]), tonumber(ARGV[10]), now)
    end
  end
end
local rememberNew = (state[3] or settings or ARGV[8] ~= '') and findKnown()
for i = 1, count do
  duplicates[#duplicates + 1] = isDuplicate[i] and i or nil
end
if #duplicates == count then
  return decide('OK ' .. table.concat(duplicates, ' '))
end

-- Whom the audiences are; items for nobody are not stored.
local isUnfinished = state[5] and tonumber(state[5]) <= now
local function findAudiences()
--@ fanning
  for _, group in ipairs(groups) do
    if group.audience then
      local upto = state[4] or '0'
      group.upto = upto
      group.list, group.after, group.isAll = nextOfAudience(group.audience, '0', upto, group.items)
      group.isNobody = group.isAll and #group.list == 0
    end
  end
  return { handOut = handOutToAll, intend = noteIntent }
end
local audiences = hasAudience and findAudiences()

local coming = 0
for _, group in ipairs(groups) do
  for item = group.first, group.first + group.items - 1 do
    coming = coming + ((isDuplicate[item] or group.isNobody) and 0 or 1)
  end
end
local excess = redis.call('HLEN', KEYS[1]) + coming - tonumber(ARGV[4])
local function makeRoom()
--@ attempts
--@ dropping
  return dropOldest(groups, excess)
end
if coming > 0 and excess > 0 and not (ARGV[5] == 'drop-oldest' and makeRoom()) then
  return decide('LIMIT')
end

local line = nextLine(KEYS[2], tonumber(state[1] or 0), now)
local lineText, lineStart = toBase36(line, 9), lineBytes(line)
local toStore, toIndex, tokens = {}, {}, {}

-- The tickets of a group's new items, whose records are stored later.
local function batchOf(group)
  local batch = { waiting = {}, due = {}, expiry = {}, members = {} }
  local waiting, due, expiry = batch.waiting, batch.due, batch.expiry
  local item, mark = group.first - 1, group.audience and '*' or ''
  for i = group.at, group.at + (group.items - 1) * stride, stride do
    item = item + 1
    if not isDuplicate[item] then
      local id, record, tail, ttl = ARGV[i], ARGV[i + 1], ARGV[i + 2], isTimed and ARGV[i + 5] or ''
      local ticket
      if ttl == '' and mark == '' then
        ticket = lineText .. tail .. id
        record = lineStart .. record
      else
        local expiresAt = ttl ~= '' and string.format('%.0f', now + ttl) or ''
        ticket = lineText .. string.sub(tail, 1, 3) .. mark .. expiresAt .. string.sub(tail, 4) .. id
        record = (ttl ~= '' and '\1' .. expiresAt or '') .. lineStart .. record
        if ttl ~= '' then
          expiry[#expiry + 1] = expiresAt
          expiry[#expiry + 1] = ticket
        end
      end
      toStore[#toStore + 1] = id
      toStore[#toStore + 1] = record
      local delay = isTimed and tonumber(ARGV[i + 4]) or 0
      if delay > 0 then
        due[#due + 1] = string.format('%.0f', now + delay)
        due[#due + 1] = ticket
      else
        waiting[#waiting + 1] = ARGV[i + 3]
        waiting[#waiting + 1] = ticket
      end
      if mark ~= '' then
        batch.members[#batch.members + 1] = string.sub(ticket, 1, PLACE) .. id
      end
      if records and records.isIndexed then
        toIndex[#toIndex + 1] = string.sub(ticket, 1, PLACE) .. id
        tokens[#toIndex] = hasFields and ARGV[i + stride - 1] or ''
      end
    end
  end
  return batch
end

-- Gives an audience its items, as many as one call may; returns how many recipients, and the name of the intent for the rest.
local function fanOut(group)
  if group.isNobody then
    return '0'
  end
  local batch, shares = batchOf(group), {}
  if #batch.members == 0 then
    return '0'
  end
  local given = #group.list + (group.isAll and 0 or 1)
  for _, member in ipairs(batch.members) do
    shares[#shares + 1], shares[#shares + 2] = member, string.format('%d', given)
  end
  callWith('HSET', PREFIX .. 'shares', shares)
  local result = string.format('%d', #group.list)
  if not group.isAll then
    local name = lineText .. group.audience
    local intent = { after = group.after, upto = group.upto, count = #group.list, audience = group.audience }
    intent.members, intent.waiting, intent.due, intent.expiry = batch.members, batch.waiting, batch.due, batch.expiry
    audiences.intend(KEYS[2], name, intent)
    result = result .. ' ' .. name
  end
  audiences.handOut(group.list, batch)
  return result
end

local results = {}
for _, group in ipairs(groups) do
  if group.audience then
    results[#results + 1] = fanOut(group)
  else
    local key = group.key
    local own = { recipient = group.name, waiting = KEYS[key], due = KEYS[key + 1], bell = KEYS[key + 2] }
    own.expiry, own.expiring = KEYS[key + 3], KEYS[3]
    handOut(own, batchOf(group))
  end
end
callWith('HSET', KEYS[1], toStore)
if #toIndex > 0 then
  records.add(toIndex, tokens)
end
if rememberNew then
  rememberNew()
end
if #names > 0 then
  local words = {}
  for i, name in ipairs(names) do
    words[2 * i - 1], words[2 * i] = '0', name
  end
  callWith('ZADD', PREFIX .. 'inboxes', words)
end
if hasAudience and not isUnfinished then
  isUnfinished = #redis.call('ZRANGEBYSCORE', PREFIX .. 'lapses', '-inf', now, 'LIMIT', 0, 1) > 0
end
table.insert(duplicates, 1, isUnfinished and 'OK+' or 'OK')
table.insert(results, 1, table.concat(duplicates, ' '))
return decide(table.concat(results, '|'))
