#!lua flags=allow-oom
-- Reads a page of the registered recipients that have not lapsed, in the order of their registration.
-- KEYS  1 recipients  2 audience  3 lapses  4 online
-- ARGV  1 number to go on behind  2 how many, at most 1000
-- Reply 1 number to go on behind, or "" at the end  2… four of each: name as in keys, when it lapses, 1 when it belongs to the
--         audience, 1 when a feed is open for it
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local max = tonumber(ARGV[2])
local page = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. ARGV[1], '+inf', 'WITHSCORES', 'LIMIT', 0, max + 1)
local names = {}
for i = 1, math.min(#page, 2 * max), 2 do
  names[#names + 1] = page[i]
end
if #names == 0 then
  return { '' }
end
local audience = redis.call('ZMSCORE', KEYS[2], unpack(names))
local lapses = redis.call('ZMSCORE', KEYS[3], unpack(names))
local online = redis.call('ZMSCORE', KEYS[4], unpack(names))
local result = { #page > 2 * max and page[2 * max] or '' }
for i, name in ipairs(names) do
  if lapses[i] and tonumber(lapses[i]) > now then
    local isOnline = online[i] and tonumber(online[i]) > now
    for _, word in ipairs({ name, lapses[i], audience[i] and 1 or 0, isOnline and 1 or 0 }) do
      result[#result + 1] = word
    end
  end
end
return result
