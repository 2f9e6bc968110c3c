-- The keys of a recipient, by its name as it stands in keys.
local function inboxOf(recipient)
  local own = PREFIX .. 'r:' .. recipient .. ':'
  return {
    recipient = recipient, waiting = own .. 'waiting', leased = own .. 'leased', due = own .. 'due',
    attempts = own .. 'attempts', expiry = own .. 'expiry', counters = own .. 'counters', dead = own .. 'dead',
    bell = own .. 'bell', expiring = PREFIX .. 'expiring',
  }
end
