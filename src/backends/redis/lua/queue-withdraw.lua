#!lua flags=allow-oom
-- Takes the tickets of removed items from those who may have them, some recipients at a time.
-- KEYS  1 records  2 one that never exists
-- ARGV  1 number of the recipient to go on behind  2… tickets, at most 1000
-- Reply number to go on behind, or "" at the end
--@ keyspace
--@ inboxes
local LOOKS_AT_ONCE = 1000
local tickets = { unpack(ARGV, 2) }
local most = math.min(200, math.max(1, math.floor(LOOKS_AT_ONCE / #tickets)))
local page = redis.call('ZRANGEBYSCORE', PREFIX .. 'recipients', '(' .. ARGV[1], '+inf', 'WITHSCORES', 'LIMIT', 0, most)
for at = 1, #page, 2 do
  local inbox = inboxOf(page[at])
  for _, key in ipairs({ inbox.waiting, inbox.leased, inbox.due, inbox.expiry }) do
    redis.call('ZREM', key, unpack(tickets))
  end
  redis.call('HDEL', inbox.attempts, unpack(tickets))
end
return #page == 2 * most and page[#page] or ''
