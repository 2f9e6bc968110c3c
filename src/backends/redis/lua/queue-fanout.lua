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
local fanouts = PREFIX .. 'fanouts'
--@ fanning
local name = ARGV[1]
if name == '' then
  local untilMs = redis.call('HGET', KEYS[2], 'fanout')
  if not untilMs or tonumber(untilMs) > now then
    return { 0, 1, '0', '0', '' }
  end
  name = redis.call('HKEYS', fanouts)[1] or ''
end

local function endIntent()
  redis.call('HDEL', fanouts, name)
  if redis.call('EXISTS', fanouts) == 0 then
    redis.call('HDEL', KEYS[2], 'fanout')
  end
end

local text = redis.call('HGET', fanouts, name)
if not text then
  endIntent()
  return { -1, redis.call('ZCOUNT', PREFIX .. 'audience', '(' .. ARGV[2], ARGV[3]), ARGV[2], ARGV[3], name }
end
local intent = cjson.decode(text)

-- Leaves out the items that somebody has removed meanwhile.
local function leaveOut(known)
  local isKnown, members = {}, {}
  for i, number in ipairs(known) do
    members[i] = intent.members[number]
    isKnown[members[i]] = true
  end
  intent.members = members
  for _, list in ipairs({ 'waiting', 'due', 'expiry' }) do
    local left = {}
    for i = 1, #intent[list], 2 do
      local ticket = intent[list][i + 1]
      if isKnown[string.sub(ticket, 1, PLACE) .. idOf(ticket)] then
        left[#left + 1], left[#left + 2] = intent[list][i], ticket
      end
    end
    intent[list] = left
  end
end

local list, after, isAll = nextOfAudience(intent.audience, intent.after, intent.upto, #intent.members)
local known = addShares(intent.members, #list)
if #known < #intent.members then
  leaveOut(known)
end
intent.after, intent.count = after, intent.count + #list
if isAll or #known == 0 then
  isAll = true
  endIntent()
else
  noteIntent(KEYS[2], name, intent)
end
if #known > 0 then
  handOutToAll(list, intent)
end
if isAll then
  -- Now it is over once nobody has it to finish, which may be so already.
  for from = 1, #intent.members, SLICE do
    local tickets, ids = {}, {}
    for i = from, math.min(from + SLICE - 1, #intent.members) do
      tickets[#tickets + 1] = string.sub(intent.members[i], 1, PLACE) .. '*'
      ids[#ids + 1] = string.sub(intent.members[i], PLACE + 1)
    end
    finish('', tickets, ids)
  end
end
return { intent.count, isAll and 1 or 0, after, intent.upto, name }
