#!lua flags=allow-oom
-- Makes a recipient known, or says that somebody reads it.
-- KEYS  1 state  2 recipients  3 registrations  4 audience  5 lapses  6 online  7 inboxes  8 listeners of the recipient
-- ARGV  1 recipient, as in keys  2 ms after which it lapses  3 "audience", "private", or "" to leave it as it is
--       4 "read", to leave both as they are where it is known, or "register"
--       5 name of the feed that is open for it, or ""  6 for how long that holds, in ms  7 most recipients
--       8 how many of the others that have lapsed to tell
-- Reply 1 "OK", "FULL" when there are too many, or "LAPSED" when it has: it has to be forgotten first
--       2 ms after which it lapses, or "" when it is not registered  3… other recipients that have lapsed, as in keys
local recipient, registration = ARGV[1], ARGV[3]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local lapsesAt = redis.call('ZSCORE', KEYS[5], recipient)
if lapsesAt and tonumber(lapsesAt) <= now then
  return { 'LAPSED', '' }
end

local function nextNumber()
  return redis.call('HINCRBY', KEYS[1], 'registered', 1)
end

-- What it was registered with stays.
local ttlMs = ARGV[4] == 'read' and redis.call('HGET', KEYS[3], recipient)
local result = { 'OK', '' }
if not lapsesAt and registration ~= '' and redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[7]) then
  result[1] = 'FULL'
elseif not ttlMs and registration ~= '' then
  ttlMs = ARGV[2]
  redis.call('HSET', KEYS[3], recipient, ttlMs)
  if not lapsesAt then
    redis.call('ZADD', KEYS[2], nextNumber(), recipient)
    redis.call('ZADD', KEYS[7], 0, recipient)
  end
  if registration == 'private' then
    redis.call('ZREM', KEYS[4], recipient)
  elseif not redis.call('ZSCORE', KEYS[4], recipient) then
    -- What was pushed before is not for it, also where it is still being handed out.
    redis.call('ZADD', KEYS[4], nextNumber(), recipient)
  end
end
if result[1] == 'OK' and ttlMs then
  redis.call('ZADD', KEYS[5], string.format('%.0f', now + ttlMs), recipient)
  result[2] = ttlMs
end
if result[1] == 'OK' and ARGV[5] ~= '' then
  local untilMs = string.format('%.0f', now + ARGV[6])
  redis.call('ZADD', KEYS[8], untilMs, ARGV[5])
  redis.call('ZADD', KEYS[6], 'GT', untilMs, recipient)
  -- Earlier builds pushed to those whom nobody had registered without noting them.
  redis.call('ZADD', KEYS[7], 0, recipient)
  local gone = redis.call('ZRANGEBYSCORE', KEYS[8], '-inf', now, 'LIMIT', 0, 100)
  if #gone > 0 then
    redis.call('ZREM', KEYS[8], unpack(gone))
  end
end
for _, other in ipairs(redis.call('ZRANGEBYSCORE', KEYS[5], '-inf', now, 'LIMIT', 0, ARGV[8])) do
  result[#result + 1] = other
end
return result
