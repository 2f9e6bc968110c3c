-- What is kept of items besides what delivering needs, where the queue is configured so: `settings` as they are stored.
--   kept: zset of place and id by when it was finished in microseconds, so that the first to go is known, of each kept record
--   finished: hash of id to the record
--   outcomes: hash of id to "<acked> <dead> <expired> <when last>", and a line "<recipient> <outcome> <attempts> <when>" for
--     each of the first recipients that finished it, also of items that others still have to finish
--   fields: hash of id to "<field>:<value> <field>:<value>", encoded as in keys
--   index:all, index:<field>:<value>: zsets of place and id, of items and kept records     index:<outcome>: of kept records
local MAX_OUTCOMES = 1000
local OUTCOMES = { acked = 1, dead = 2, expired = 3 }
local TRIMMED_AT_ONCE = 250

local keepsThem, isIndexed = settings.keepAckedMs > 0 and settings.maxRecords > 0, settings.index ~= nil

local function indexKey(of)
  return PREFIX .. 'index:' .. of
end

-- Makes items findable: `members` are places and ids, `tokens` of each its fields and values, or nothing.
local function addToIndex(members, tokens)
  local all, by = {}, {}
  for i, member in ipairs(members) do
    all[#all + 1], all[#all + 2] = '0', member
    for token in string.gmatch(tokens[i] or '', '%S+') do
      by[token] = by[token] or {}
      table.insert(by[token], '0')
      table.insert(by[token], member)
    end
  end
  callWith('ZADD', indexKey('all'), all)
  local fields = {}
  for i, member in ipairs(members) do
    if tokens[i] and tokens[i] ~= '' then
      fields[#fields + 1], fields[#fields + 2] = string.sub(member, 13), tokens[i]
    end
  end
  callWith('HSET', PREFIX .. 'fields', fields)
  for token, words in pairs(by) do
    callWith('ZADD', indexKey(token), words)
  end
end

-- Of fields and values that an item had when it was parked, those that are indexed now.
local function recordedFieldsOf(tokens)
  local indexed, kept = {}, {}
  for _, field in ipairs(settings.index or {}) do
    indexed[encodeName(field)] = true
  end
  for token in string.gmatch(tokens or '', '%S+') do
    kept[#kept + 1] = indexed[string.match(token, '^[^:]*')] and token or nil
  end
  return table.concat(kept, ' ')
end

-- Items that are forgotten are found no more.
local function removeFromIndex(members, ids)
  if not isIndexed or #members == 0 then
    return
  end
  local by = { all = members }
  for i, tokens in ipairs(redis.call('HMGET', PREFIX .. 'fields', unpack(ids))) do
    for token in string.gmatch(tokens or '', '%S+') do
      by[token] = by[token] or {}
      table.insert(by[token], members[i])
    end
  end
  for token, those in pairs(by) do
    redis.call('ZREM', indexKey(token), unpack(those))
  end
  redis.call('HDEL', PREFIX .. 'fields', unpack(ids))
end

local function readOutcomes(text)
  local acked, dead, expired, at, lines = string.match(text or '', '^(%d+) (%d+) (%d+) (%d+)\n(.*)$')
  return { tonumber(acked or 0), tonumber(dead or 0), tonumber(expired or 0) }, at, lines or ''
end

local function outcomesText(counts, at, lines)
  return table.concat({ counts[1], counts[2], counts[3], at }, ' ') .. '\n' .. lines
end

local function outcomeOf(counts)
  return counts[2] > 0 and 'dead' or counts[3] > 0 and 'expired' or 'acked'
end

-- Notes what items came to with a recipient, in so many attempts each.
local function noteOutcomes(recipient, ids, outcome, attempts)
  local key, at, words = PREFIX .. 'outcomes', string.format('%.0f', now), {}
  for i, text in ipairs(redis.call('HMGET', key, unpack(ids))) do
    local counts, _, lines = readOutcomes(text)
    if counts[1] + counts[2] + counts[3] < MAX_OUTCOMES then
      lines = lines .. table.concat({ recipient, outcome, attempts[i], at }, ' ') .. '\n'
    end
    counts[OUTCOMES[outcome]] = counts[OUTCOMES[outcome]] + 1
    words[#words + 1], words[#words + 2] = ids[i], outcomesText(counts, at, lines)
  end
  callWith('HSET', key, words)
end

-- Forgets kept records, by their places and ids.
local function forgetKept(members)
  if #members == 0 then
    return
  end
  local ids = {}
  for i, member in ipairs(members) do
    ids[i] = string.sub(member, 13)
  end
  redis.call('ZREM', PREFIX .. 'kept', unpack(members))
  redis.call('HDEL', PREFIX .. 'finished', unpack(ids))
  redis.call('HDEL', PREFIX .. 'outcomes', unpack(ids))
  if isIndexed then
    for outcome in pairs(OUTCOMES) do
      redis.call('ZREM', indexKey(outcome), unpack(members))
    end
    removeFromIndex(members, ids)
  end
end

-- Forgets kept records that are too many or too old, a slice of them; returns how many, and whether there may be more.
local function trimKept()
  local key = PREFIX .. 'kept'
  local excess = math.min(redis.call('ZCARD', key) - settings.maxRecords, SLICE)
  local members = excess > 0 and redis.call('ZRANGE', key, 0, excess - 1) or {}
  forgetKept(members)
  local before = string.format('%.0f', (now - settings.keepAckedMs) * 1000)
  local aged = redis.call('ZRANGEBYSCORE', key, '-inf', before, 'LIMIT', 0, TRIMMED_AT_ONCE)
  forgetKept(aged)
  return #members + #aged, #members == SLICE or #aged == TRIMMED_AT_ONCE
end

-- Whether records are kept by these ids. Those that are too old are forgotten.
local function areHeld(ids)
  local held, before = {}, (now - settings.keepAckedMs) * 1000
  for i, text in ipairs(redis.call('HMGET', PREFIX .. 'outcomes', unpack(ids))) do
    local record = text and redis.call('HGET', PREFIX .. 'finished', ids[i])
    local member = record and readRecord(record).place .. ids[i]
    held[i] = member and tonumber(redis.call('ZSCORE', PREFIX .. 'kept', member) or 0) > before
    if member and not held[i] then
      forgetKept({ member })
    end
  end
  return held
end

-- Keeps finished items as records. Those that nobody came to an end with are forgotten, whose letter was redriven as well, and
-- those that somebody has removed.
local function keep(members, ids)
  local forgotten, forgottenIds, finished, kept, by = {}, {}, {}, {}, {}
  local outcomes = redis.call('HMGET', PREFIX .. 'outcomes', unpack(ids))
  local time = redis.call('TIME')
  local at = string.format('%.0f', time[1] * 1000000 + time[2])
  for i, record in ipairs(redis.call('HMGET', KEYS[1], unpack(ids))) do
    local counts = readOutcomes(outcomes[i])
    if record and counts[1] + counts[2] + counts[3] > 0 then
      local outcome = outcomeOf(counts)
      by[outcome] = by[outcome] or {}
      finished[#finished + 1], finished[#finished + 2] = ids[i], record
      kept[#kept + 1], kept[#kept + 2] = at, members[i]
      table.insert(by[outcome], '0')
      table.insert(by[outcome], members[i])
    else
      forgotten[#forgotten + 1], forgottenIds[#forgottenIds + 1] = members[i], ids[i]
    end
  end
  callWith('HSET', PREFIX .. 'finished', finished)
  callWith('ZADD', PREFIX .. 'kept', kept)
  if isIndexed then
    for outcome, words in pairs(by) do
      callWith('ZADD', indexKey(outcome), words)
    end
  end
  if #forgotten > 0 then
    redis.call('HDEL', PREFIX .. 'outcomes', unpack(forgottenIds))
    removeFromIndex(forgotten, forgottenIds)
  end
  trimKept()
end

-- Items are for nobody any more.
local function ended(members, ids)
  if keepsThem then
    keep(members, ids)
  else
    removeFromIndex(members, ids)
  end
end

return {
  keepsThem = keepsThem, isIndexed = isIndexed, indexKey = indexKey, fieldsOf = recordedFieldsOf,
  add = addToIndex, remove = removeFromIndex,
  note = noteOutcomes, read = readOutcomes, write = outcomesText, outcomeOf = outcomeOf,
  ended = ended, areHeld = areHeld, forgetKept = forgetKept, trim = trimKept,
}
