-- Places in line: numbers that grow from push to push, and tell when that was.
local PLACES_PER_MS = 16

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

-- The next place, where `last` is the one before it, or nothing. A ticket has it in nine digits, and behind them three for
-- an item's place in its push. Beyond 16 pushes a millisecond, or while the clock is set back, it runs ahead of the clock.
local function nextLine(state, last, now)
  local line = math.max((last or 0) + 1, now * PLACES_PER_MS)
  redis.call('HSET', state, 'line', string.format('%.0f', line))
  return line
end

-- When a place was given, as text; nil for those that earlier builds gave, which were counted from 1.
local function timeOfPlace(place)
  local ms = math.floor(tonumber(string.sub(place, 1, 9), 36) / PLACES_PER_MS)
  return ms >= 1000000000000 and string.format('%.0f', ms) or nil
end
