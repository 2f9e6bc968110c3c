-- Numbers to the base of 36 with leading zeros, so that texts sort as they do.
local function toBase36(number, width)
  local digits = ''
  for _ = 1, width do
    local digit = number % 36 + 1
    digits = string.sub('0123456789abcdefghijklmnopqrstuvwxyz', digit, digit) .. digits
    number = math.floor(number / 36)
  end
  return digits
end

-- The place in line of a push, without the three digits of an item's place in it. Nine digits: as many pushes as one
-- server can do in decades.
local function nextPlace(line)
  return toBase36(redis.call('INCR', line), 9)
end
