-- What `attempts` says of a ticket, which is nothing of most first deliveries: "<fence> <attempt>@<ms of the first failure>+<ms
-- when it was put back> <consumer>", without what is not known. The fence grows with each delivery, counted or not.
local function stateOf(text)
  if not text then
    return 0, 1, '', '', ''
  end
  local fence, attempt, failedAt, putBackAt, holder = string.match(text, '^(%d+) (%d+)(@?%d*)(%+?%d*) ?(.*)$')
  return tonumber(fence), tonumber(attempt), holder, failedAt, putBackAt
end

-- How many attempts have begun of items that nobody holds.
local function begunOf(inbox, tickets)
  local begun = {}
  for i, text in ipairs(redis.call('HMGET', inbox.attempts, unpack(tickets))) do
    local _, attempt = stateOf(text)
    begun[i] = attempt - 1
  end
  return begun
end
