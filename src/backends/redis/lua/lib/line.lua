-- Places in line: numbers that grow from push to push, and tell when that was.
local PLACES_PER_MS = 16

-- Numbers to the base of 36 with leading zeros, so that texts sort as they do.
local function toBase36(number, width)
  local bytes = {}
  for i = width, 1, -1 do
    local digit = number % 36
    bytes[i] = digit < 10 and 48 + digit or 87 + digit
    number = (number - digit) / 36
  end
  return string.char(unpack(bytes))
end

-- The next place, where `last` is the one before it, or nothing. A ticket has it in nine digits, and behind them three for
-- an item's place in its push. Beyond 16 pushes a millisecond, or while the clock is set back, it runs ahead of the clock.
local function nextLine(state, last, now)
  local line = math.max((last or 0) + 1, now * PLACES_PER_MS)
  redis.call('HSET', state, 'line', string.format('%.0f', line))
  return line
end

-- A place in line in 6 bytes, as records begin with it: the first is 128 or more.
local function lineBytes(line)
  local bytes = {}
  for i = 6, 1, -1 do
    bytes[i] = line % 256
    line = (line - bytes[i]) / 256
  end
  return string.char(bytes[1] + 128, unpack(bytes, 2))
end
