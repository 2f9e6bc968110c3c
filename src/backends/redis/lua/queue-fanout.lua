#!lua flags=allow-oom
-- Goes on handing out what a push for an audience has stored, some recipients at a time.
-- KEYS  1 records  2 state  3 expiring  4 one that never exists
-- ARGV  1 name of the intent, or "" for one whose publisher is gone  2 last number that the caller knows of, and
--       3 the last there was: both "0" when it knows of none
-- Reply 1 how many recipients there were so far  2 1 when that was all  3 the last number  4 the last there was
--       5 name of the intent; where others have finished it, 1 is -1, and 2 how many recipients are between the numbers that
--         the caller gave
--@ keyspace
--@ slices
--@ clock
--@ names
--@ tickets
--@ line
--@ record
--@ bell
--@ handing
local now = nowMs()
local stored = redis.call('HGET', KEYS[2], 'records')
local settings = stored and stored ~= '' and cjson.decode(stored)
--@ finishing
--@ fanning
local name = ARGV[1]
if name == '' then
  local untilMs = redis.call('HGET', KEYS[2], 'fanout')
  if not untilMs or tonumber(untilMs) > now then
    return { 0, 1, '0', '0', '' }
  end
  name = intents()[1] or ''
end
local intent = readIntent(name)
if not intent then
  local left = redis.call('ZCOUNT', PREFIX .. 'audience', '(' .. ARGV[2], ARGV[3])
  return { -1, left, ARGV[2], ARGV[3], name }
end
local batch = readBatch(name)
local items = (#batch.waiting + #batch.due) / 2
local list, after, isAll = {}, intent.after, true
if items > 0 then
  list, after, isAll = nextOfAudience(intent.audience, intent.after, intent.upto, items)
end
intent.after, intent.count = after, intent.count + #list
if not isAll then
  writeIntent(KEYS[2], name, intent)
end
handOutToAll(list, batch)
if isAll then
  endIntent(KEYS[2], name, intent, batch)
end
return { intent.count, isAll and 1 or 0, after, intent.upto, name }
