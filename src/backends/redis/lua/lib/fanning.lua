-- Hands items out to an audience, some recipients at a time. The zset `audience` has those whom such items reach, by a number
-- that grows; `lapses` when each of them lapses, and `online` until when a feed is open for it.
-- What a call leaves is an intent, two fields of the hash `fanouts`: place in line and audience of the push to "<after> <upto>
-- <count> <given> <audience>", the numbers between which the others are, how many recipients there were so far, and how many
-- shares each item was given: as many as there may be at most, and one. And the same with a "|" to the tickets, as JSON of
-- what lib/handing.lua takes. It is there before the tickets are handed out, so that others go on where its publisher dies:
-- after a second, which `fanout` of the state tells.
local DELIVERIES_AT_ONCE = 256
local LEFT_ALONE_MS = 1000

-- The next recipients behind a number, of so many items; the last number that was looked at; and whether those are all.
local function nextOfAudience(audience, after, upto, items)
  local most = math.max(1, math.floor(DELIVERIES_AT_ONCE / items))
  local page = redis.call('ZRANGEBYSCORE', PREFIX .. 'audience', '(' .. after, upto, 'WITHSCORES', 'LIMIT', 0, most)
  local names, list = {}, {}
  for i = 1, #page, 2 do
    names[#names + 1] = page[i]
  end
  if #names > 0 then
    local lapses = redis.call('ZMSCORE', PREFIX .. 'lapses', unpack(names))
    local online = redis.call('ZMSCORE', PREFIX .. 'online', unpack(names))
    for i, name in ipairs(names) do
      local isOnline = online[i] and tonumber(online[i]) > now
      if lapses[i] and tonumber(lapses[i]) > now and (isOnline or audience == 'registered') then
        list[#list + 1] = { name = name, isOnline = isOnline }
      end
    end
  end
  return list, page[#page] or after, #names < most
end

-- Gives each recipient all tickets. Where nobody listens, no bell has to be rung.
local function handOutToAll(list, batch)
  local expiring, soonest = {}, #batch.expiry > 0 and string.format('%.0f', soonestOf(batch.expiry))
  for _, one in ipairs(list) do
    local own = PREFIX .. 'r:' .. one.name .. ':'
    callWith('ZADD', own .. 'waiting', batch.waiting)
    callWith('ZADD', own .. 'due', batch.due)
    callWith('ZADD', own .. 'expiry', batch.expiry)
    if soonest then
      expiring[#expiring + 1], expiring[#expiring + 2] = soonest, decodeName(one.name)
    end
    if one.isOnline then
      ring(own .. 'bell')
    end
  end
  if soonest and #expiring > 0 then
    redis.call('ZADD', PREFIX .. 'expiring', 'LT', unpack(expiring))
  end
end

local FANOUTS = PREFIX .. 'fanouts'

local function writeIntent(state, name, intent)
  local words = { intent.after, intent.upto, intent.count, intent.given, intent.audience }
  redis.call('HSET', FANOUTS, name, table.concat(words, ' '))
  redis.call('HSET', state, 'fanout', string.format('%.0f', now + LEFT_ALONE_MS))
end

local function readIntent(name)
  local text = redis.call('HGET', FANOUTS, name)
  if not text then
    return nil
  end
  local after, upto, count, given, audience = string.match(text, '^(%S+) (%S+) (%d+) (%d+) (%a+)$')
  return { after = after, upto = upto, count = tonumber(count), given = tonumber(given), audience = audience }
end

-- The names of all intents.
local function intents()
  local names = {}
  for _, field in ipairs(redis.call('HKEYS', FANOUTS)) do
    if string.sub(field, -1) ~= '|' then
      names[#names + 1] = field
    end
  end
  return names
end

local function writeBatch(name, batch)
  redis.call('HSET', FANOUTS, name .. '|', cjson.encode(batch))
end

local function readBatch(name)
  return cjson.decode(redis.call('HGET', FANOUTS, name .. '|'))
end

-- Leaves out the items that are to be left out.
local function withoutItems(batch, isOut)
  local left = { waiting = {}, due = {}, expiry = {} }
  for part, list in pairs(left) do
    for i = 1, #batch[part], 2 do
      if not isOut[idOf(batch[part][i + 1])] then
        list[#list + 1], list[#list + 2] = batch[part][i], batch[part][i + 1]
      end
    end
  end
  return left
end

-- All have what they get, and no more shares are to come: items that nobody has to finish any more are over.
local function endIntent(state, name, intent, batch)
  redis.call('HDEL', FANOUTS, name, name .. '|')
  if redis.call('EXISTS', FANOUTS) == 0 then
    redis.call('HDEL', state, 'fanout')
  end
  local tickets, ids, members = {}, {}, {}
  for _, list in ipairs({ batch.waiting, batch.due }) do
    for i = 2, #list, 2 do
      tickets[#tickets + 1], ids[#ids + 1] = list[i], idOf(list[i])
      members[#members + 1] = memberOf(list[i], ids[#ids])
    end
  end
  for from = 1, #tickets, SLICE do
    local to = math.min(from + SLICE - 1, #tickets)
    local words = {}
    for i, shares in ipairs(redis.call('HMGET', PREFIX .. 'shares', unpack(members, from, to))) do
      if shares then
        words[#words + 1] = members[from + i - 1]
        words[#words + 1] = string.format('%d', shares - intent.given + 1 + intent.count)
      end
    end
    callWith('HSET', PREFIX .. 'shares', words)
    finish('', { unpack(tickets, from, to) }, { unpack(ids, from, to) })
  end
end
