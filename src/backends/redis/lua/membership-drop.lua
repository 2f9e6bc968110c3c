#!lua flags=allow-oom
-- Removes what a lapsed holder held in a group, and refuses what it may send yet.
-- KEYS  1 state  2 members  3 order  4 fading  5 ids of the holder
-- ARGV  1 holder  2 how many members at most, up to 1000  3 when the holder was seen last, or ""
-- Reply as `closeCall` says
--@ holders
--@ members
local keys = { state = KEYS[1], members = KEYS[2], order = KEYS[3], fading = KEYS[4], ids = KEYS[5] }
local holder = ARGV[1]
redis.call('HDEL', keys.state, 'h' .. holder)
local call = openCall(keys, holder, 0)
rise(keys, call, holder, redis.call('SPOP', keys.ids, ARGV[2]), ARGV[3] ~= '' and ARGV[3] or whole(call.nowMs))
return closeCall(keys, call, holder, '-', {})
