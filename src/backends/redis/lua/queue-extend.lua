#!lua flags=allow-oom
-- Renews the leases of running deliveries.
-- KEYS  1 leased  2 attempts
-- ARGV  1 leaseMs  2… ticket and fence of each delivery, at most 1000 of them
-- Reply numbers of the deliveries that are no longer held
--@ clock
local leaseEnd = string.format('%.0f', nowMs() + ARGV[1])
local lost = {}
for i = 2, #ARGV, 2 do
  local ticket = ARGV[i]
  local fence = string.match(redis.call('HGET', KEYS[2], ticket) or '0', '^%d+')
  if fence == ARGV[i + 1] and redis.call('ZSCORE', KEYS[1], ticket) then
    redis.call('ZADD', KEYS[1], 'XX', leaseEnd, ticket)
  else
    lost[#lost + 1] = i / 2
  end
end
return lost
