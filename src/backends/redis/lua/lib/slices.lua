-- Calls a command with many words in slices; an even number of them, so that pairs stay together.
local SLICE = 1000
local function callWith(command, key, words)
  for from = 1, #words, SLICE do
    redis.call(command, key, unpack(words, from, math.min(from + SLICE - 1, #words)))
  end
end
