/**
 * The scripts of a bare priority queue with fence, expiry and attempts: a hash of records; a sorted set of what waits
 * (score -priority, member `seq|priority|expiresAt|id`, which is the receipt); one of what is leased, whose score, the
 * end of the lease, is the fence; a hash of attempts beyond the first. A constant number of commands for each batch.
 */

/** KEYS: records, waiting, seq, bell. ARGV: id, priority, time to live in ms (0: none) and body of each item. */
export const PUSH = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local count = #ARGV / 4
local seq = redis.call('INCRBY', KEYS[3], count) - count
local records, waiting = {}, {}
for item = 1, count do
  local at = item * 4 - 3
  local id, priority, ttl = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
  local expires = ttl > 0 and now + ttl or 0
  records[item * 2 - 1], records[item * 2] = id, ARGV[at + 3]
  waiting[item * 2 - 1] = -priority
  waiting[item * 2] = string.format('%015d|%s|%d|%s', seq + item, priority, expires, id)
end
redis.call('HSET', KEYS[1], unpack(records))
redis.call('ZADD', KEYS[2], unpack(waiting))
redis.call('ZADD', KEYS[4], 0, '1')
return count
`;

/**
 * KEYS: records, waiting, leased, attempts. ARGV: how many to take, lease in ms, then receipt and fence of each settled.
 * Returns the number settled, the fence of what is taken, then receipt, attempt and body of each.
 */
export const SETTLE_AND_TAKE = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local settled = 0
if #ARGV > 2 then
  local receipts = {}
  for at = 3, #ARGV, 2 do receipts[#receipts + 1] = ARGV[at] end
  local fences = redis.call('ZMSCORE', KEYS[3], unpack(receipts))
  local held, ids = {}, {}
  for index, receipt in ipairs(receipts) do
    if fences[index] and tonumber(fences[index]) == tonumber(ARGV[2 + index * 2]) then
      held[#held + 1] = receipt
      ids[#ids + 1] = string.match(receipt, '[^|]*$')
    end
  end
  settled = #held
  if settled > 0 then
    redis.call('ZREM', KEYS[3], unpack(held))
    redis.call('HDEL', KEYS[1], unpack(ids))
    redis.call('HDEL', KEYS[4], unpack(ids))
  end
end
local popped = redis.call('ZPOPMIN', KEYS[2], ARGV[1])
local receipts, ids, leases, expired = {}, {}, {}, {}
local fence = string.format('%d', now + ARGV[2])
for at = 1, #popped, 2 do
  local expires, id = string.match(popped[at], '^%d+|%-?%d+|(%d+)|(.*)$')
  if expires ~= '0' and tonumber(expires) <= now then
    expired[#expired + 1] = id
  else
    receipts[#receipts + 1], ids[#ids + 1] = popped[at], id
    leases[#leases + 1] = fence
    leases[#leases + 1] = popped[at]
  end
end
if #expired > 0 then redis.call('HDEL', KEYS[1], unpack(expired)) end
local reply = {settled, fence}
if #ids > 0 then
  redis.call('ZADD', KEYS[3], unpack(leases))
  local bodies = redis.call('HMGET', KEYS[1], unpack(ids))
  local attempts = redis.call('HMGET', KEYS[4], unpack(ids))
  for index, receipt in ipairs(receipts) do
    reply[#reply + 1] = receipt
    reply[#reply + 1] = (attempts[index] or 0) + 1
    reply[#reply + 1] = bodies[index]
  end
end
return reply
`;
