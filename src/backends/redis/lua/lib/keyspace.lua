-- Keys of the queue that the script was not given, written as keys.ts writes them. They lie in the slot of `records`, which
-- is always KEYS[1]; and whoever uses them is given a key that never exists, too, so that a Cluster that is just moving the
-- slot refuses the script as a whole, and not one of its commands in the middle.
local PREFIX = string.sub(KEYS[1], 1, -1 - #'records')

-- The keys of a recipient, by its name as it stands in keys.
local function inboxOf(recipient)
  local own = PREFIX .. 'r:' .. recipient .. ':'
  return {
    recipient = recipient, waiting = own .. 'waiting', leased = own .. 'leased', due = own .. 'due',
    attempts = own .. 'attempts', expiry = own .. 'expiry', counters = own .. 'counters', dead = own .. 'dead',
    bell = own .. 'bell', expiring = PREFIX .. 'expiring',
  }
end

-- Calls a command with many words in slices; an even number of them, so that pairs stay together.
local SLICE = 1000
local function callWith(command, key, words)
  for from = 1, #words, SLICE do
    redis.call(command, key, unpack(words, from, math.min(from + SLICE - 1, #words)))
  end
end
