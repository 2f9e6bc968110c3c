-- What a group with order has to do once that it had none a moment ago. Needs `entries` and `turns`.

-- For so long after its order has changed, consumers may read that have not heard of it: as long as a read blocks, and more.
local UNAWARE_MS = 5000

-- Takes in hand what such consumers were given by Redis itself, in order of position: what is not its key's turn is taken
-- from them, and the rest they find when they look for what is theirs. `changedAt` is when the order changed, in ms.
local function adopt(keys, group, order, changedAt)
  local time = changedAt and redis.call('TIME')
  if not time or time[1] * 1000 + math.floor(time[2] / 1000) - changedAt > UNAWARE_MS then
    return
  end
  local from, pending = '-', nil
  repeat
    pending = redis.pcall('XPENDING', keys.stream, group, from, '+', 1000)
    if pending.err or #pending == 0 then
      return
    end
    local own, entries = {}, {}
    for i, delivery in ipairs(pending) do
      own[i] = 'p' .. delivery[1]
    end
    for i, key in ipairs(redis.call('HMGET', keys.busy, unpack(own))) do
      local entry = not key and redis.call('XRANGE', keys.stream, pending[i][1], pending[i][1])[1]
      if entry and (groupOf(entry[2]) or group) == group then
        entries[#entries + 1] = entry
      end
    end
    admit(keys, group, order, entries)
    from = '(' .. pending[#pending][1]
  until #pending < 1000
end
