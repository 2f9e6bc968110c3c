#!lua flags=allow-oom
-- Tells who of some registered recipients has items to finish that several may have.
-- KEYS  1 records  2 one that never exists
-- ARGV  1 number of the recipient to go on behind  2… tickets of the items, at most 1000
-- Reply 1 number to go on behind, or "" at the end
--       2… five of each item that a recipient has: number of its ticket, recipient as in keys, "w", "d" or "l", score,
--         what `attempts` says of it
--@ keyspace
--@ inboxes
--@ clock
--@ tickets
local LOOKS_AT_ONCE = 2000
local now = nowMs()
local tickets = { unpack(ARGV, 2) }
local most = math.min(500, math.max(1, math.floor(LOOKS_AT_ONCE / #tickets)))
local page = redis.call('ZRANGEBYSCORE', PREFIX .. 'recipients', '(' .. ARGV[1], '+inf', 'WITHSCORES', 'LIMIT', 0, most)
local result = { #page == 2 * most and page[#page] or '' }
for at = 1, #page, 2 do
  local inbox = inboxOf(page[at])
  local leased = redis.call('ZMSCORE', inbox.leased, unpack(tickets))
  local due = redis.call('ZMSCORE', inbox.due, unpack(tickets))
  for i, score in ipairs(redis.call('ZMSCORE', inbox.waiting, unpack(tickets))) do
    local isDelayed = due[i] and tonumber(due[i]) > now
    local state = leased[i] and 'l' or isDelayed and 'd' or (score or due[i]) and 'w'
    if state then
      local known = redis.call('HGET', inbox.attempts, tickets[i]) or ''
      for _, word in ipairs({ i, page[at], state, leased[i] or due[i] or '', known }) do
        result[#result + 1] = word
      end
    end
  end
end
return result
