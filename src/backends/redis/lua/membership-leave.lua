#!lua flags=allow-oom
-- Holds members in a group no longer.
-- KEYS  1 state  2 members  3 order  4 fading  5 ids of the holder
-- ARGV  1 holder  2 number of the call  3… ids, at most 1000 of them
-- Reply STALE when a later call was here before; else as `closeCall` says: a lapsed holder has nobody here
--@ holders
--@ members
local keys = { state = KEYS[1], members = KEYS[2], order = KEYS[3], fading = KEYS[4], ids = KEYS[5] }
local holder = ARGV[1]
local call, refusal, version = openCall(keys, holder, tonumber(ARGV[2]))
if refusal then
  return refusal == 'LAPSED' and { version, version, 0, {} } or refusal
end
local ids = { unpack(ARGV, 3) }
rise(keys, call, holder, ids, whole(call.nowMs))
if #ids > 0 then
  redis.call('SREM', keys.ids, unpack(ids))
end
return closeCall(keys, call, holder, ARGV[2] .. ' ' .. whole(call.version), {})
