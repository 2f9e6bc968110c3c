#!lua flags=allow-oom
-- Reads a page of a group's members, in the order in which they joined.
-- KEYS  1 state  2 members  3 order
-- ARGV  1 how many, at most 1000; 0 only counts  2 place of the last member of the page before, or 0
-- Reply 1 the group's version  2 how many members it has  3 place of the last of the page, or "" when it is the last page
--       4… id and record of each
local max, after = tonumber(ARGV[1]), ARGV[2]
-- The page ends when it holds so much.
local MAX_BYTES = 1000000
local SLICE = 100

local out = { redis.call('HGET', KEYS[1], 'v') or '0', redis.call('HLEN', KEYS[2]), '' }
local count, bytes = 0, 0
while count < max and bytes < MAX_BYTES do
  local places = redis.call(
    'ZRANGEBYSCORE', KEYS[3], '(' .. after, '+inf', 'WITHSCORES', 'LIMIT', 0, math.min(SLICE, max - count)
  )
  if #places == 0 then
    return out
  end
  local ids = {}
  for i = 1, #places, 2 do
    ids[#ids + 1] = places[i]
  end
  for i, record in ipairs(redis.call('HMGET', KEYS[2], unpack(ids))) do
    out[#out + 1], out[#out + 2] = ids[i], record or ''
    bytes = bytes + #(record or '')
  end
  count, after = count + #ids, places[#places]
end
if max > 0 and redis.call('ZRANGEBYSCORE', KEYS[3], '(' .. after, '+inf', 'LIMIT', 0, 1)[1] then
  out[3] = after
end
return out
