-- Keys of the queue that the script was not given, written as keys.ts writes them. They lie in the slot of `records`, which
-- is always KEYS[1]; and whoever uses them is given a key that never exists, too, so that a Cluster that is just moving the
-- slot refuses the script as a whole, and not one of its commands in the middle.
local PREFIX = string.sub(KEYS[1], 1, -1 - #'records')
