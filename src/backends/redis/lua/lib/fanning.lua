-- Hands items out to an audience, some recipients at a time. The zset `audience` has those whom such items reach, by a number
-- that grows; `lapses` when each of them lapses, and `online` until when a feed is open for it.
-- What a call leaves is an intent: the hash `fanouts`, place in line and audience to what is to be done, as JSON: `after` and
-- `upto` of the numbers, `count` of the recipients so far, the tickets as lib/handing.lua has them. It is there before the
-- tickets are, so that others go on where its publisher dies: after a second, which `fanout` of the state tells.
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

-- Adds to how many recipients have each item to finish. Returns the numbers of the items that are known.
local function addShares(members, count)
  local key, words, known = PREFIX .. 'shares', {}, {}
  for i, shares in ipairs(redis.call('HMGET', key, unpack(members))) do
    if shares then
      known[#known + 1] = i
      words[#words + 1], words[#words + 2] = members[i], string.format('%d', shares + count)
    end
  end
  callWith('HSET', key, words)
  return known
end

local function noteIntent(state, name, intent)
  redis.call('HSET', PREFIX .. 'fanouts', name, cjson.encode(intent))
  redis.call('HSET', state, 'fanout', string.format('%.0f', now + LEFT_ALONE_MS))
end
