-- What becomes of items that a recipient has finished, or has no more. Needs `now`, and `settings` of what is kept, or nil.
--@ answers
-- Where nothing is kept besides, nothing of that is even made.
local function openRecords()
--@ recording
end
local records = settings and openRecords()

-- The hash `shares`: place and id of an item that several recipients may have, to how many have it to finish; and while it is
-- still being handed out, to how many that may be in the end, and one more.
local function memberOf(ticket, id)
  return string.sub(ticket, 1, PLACE) .. id
end

local function pick(list, numbers)
  local picked = {}
  for i, number in ipairs(numbers) do
    picked[i] = list[number]
  end
  return picked
end

-- Ends items that are for nobody any more.
local function endItems(tickets, ids, areAnswers)
  if records and not areAnswers then
    local members = {}
    for i, ticket in ipairs(tickets) do
      members[i] = memberOf(ticket, ids[i])
    end
    records.ended(members, ids)
  end
  local ended = redis.call('HDEL', KEYS[1], unpack(ids))
  if areAnswers and ended > 0 then
    countAnswers(-ended)
  end
end

-- Of items that several may have, one has it no more. Returns the numbers of those that are known, and of those that
-- nobody has then. One without shares was removed, and what is left of it is nobody's.
local function endShares(members)
  local key = PREFIX .. 'shares'
  local known, over, left, ended = {}, {}, {}, {}
  for i, shares in ipairs(redis.call('HMGET', key, unpack(members))) do
    local count = tonumber(shares or 0) - 1
    if count >= 0 then
      known[#known + 1] = i
    end
    if count > 0 then
      left[#left + 1], left[#left + 2] = members[i], string.format('%d', count)
    elseif count == 0 then
      over[#over + 1], ended[#ended + 1] = i, members[i]
    end
  end
  callWith('HSET', key, left)
  if #over > 0 then
    redis.call('HDEL', key, unpack(ended))
  end
  return known, over
end

-- Ends items for one recipient, at most 1,000 at a time, which are no longer in any of its zsets: "acked", "dead" or "expired"
-- after so many attempts each, or nil when it just has them no more. Returns how many items nobody has then.
local function finish(recipient, tickets, ids, outcome, attempts)
  local known, over, shared, shares = {}, {}, {}, {}
  for i, ticket in ipairs(tickets) do
    if isShared(ticket) then
      shared[#shared + 1], shares[#shares + 1] = i, memberOf(ticket, ids[i])
    else
      known[#known + 1], over[#over + 1] = i, i
    end
  end
  if #shared > 0 then
    local knownShared, overShared = endShares(shares)
    for _, i in ipairs(knownShared) do
      known[#known + 1] = shared[i]
    end
    for _, i in ipairs(overShared) do
      over[#over + 1] = shared[i]
    end
  end
  local areAnswers = isForAnswers(recipient)
  if outcome and records and records.keepsThem and not areAnswers and #known > 0 then
    records.note(recipient, pick(ids, known), outcome, pick(attempts, known))
  end
  if #over > 0 then
    endItems(pick(tickets, over), pick(ids, over), areAnswers)
  end
  return #over
end
