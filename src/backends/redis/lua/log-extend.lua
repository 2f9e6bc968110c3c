#!lua flags=allow-oom
-- Renews the leases of one consumer's deliveries.
-- KEYS  1 stream  2 attempts  3 sweep
-- ARGV  1 group  2 consumer  3… position and fence of each delivery, at most 1000 of them
-- Reply numbers of the deliveries that are no longer held
--@ positions
local stream, group, consumer = KEYS[1], ARGV[1], ARGV[2]
local first = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
local base = redis.call('HGET', KEYS[3], 'base') or '0'
local lost, numbers, words = {}, {}, { 'XCLAIM', stream, group, consumer, 0 }

for i = 3, #ARGV, 2 do
  local position, number = ARGV[i], (i - 1) / 2
  local fence = string.match(redis.call('HGET', KEYS[2], position) or base, '^%d+')
  if fence ~= ARGV[i + 1] then
    lost[#lost + 1] = number
  elseif not first or isBefore(position, first[1]) then
    -- XCLAIM would forget a delivery whose entry was dropped, while its handler is still about it.
    local pending = redis.pcall('XPENDING', stream, group, position, position, 1)
    if pending.err or not pending[1] then
      lost[#lost + 1] = number
    end
  else
    words[#words + 1] = position
    numbers[position] = number
  end
end

if #words > 5 then
  words[#words + 1] = 'JUSTID'
  local claimed = redis.pcall(unpack(words))
  for _, position in ipairs(claimed.err and {} or claimed) do
    numbers[position] = nil
  end
  for _, number in pairs(numbers) do
    lost[#lost + 1] = number
  end
end
return lost
