-- Ids that callers gave, remembered in two generations, hashes of id to some value. A part of log-append and of the queue.
local IDS_AT_ONCE = 1000

-- What is remembered of each id, or false.
local function lookUpIds(generations, ids)
  local found = {}
  for _, generation in ipairs(generations) do
    for from = 1, #ids, IDS_AT_ONCE do
      local to = math.min(from + IDS_AT_ONCE - 1, #ids)
      for i, value in ipairs(redis.call('HMGET', generation, unpack(ids, from, to))) do
        found[from + i - 1] = found[from + i - 1] or value
      end
    end
  end
  return found
end

-- Remembers ids in the present generation, or in a new one when that is full or old. The hash `state` says in `ids` which is
-- the present one, and since when: `current`, or nothing.
local function rememberIds(generations, state, current, ids, values, maxIds, windowMs, now)
  local which, began = string.match(current or '0 0', '^(%d) (%d+)$')
  local held = redis.call('HLEN', generations[which + 1])
  local starts = held == 0
  if not starts and (held + #ids > maxIds or now - began >= windowMs) then
    which, starts = 1 - which, true
    redis.call('UNLINK', generations[which + 1])
  end
  for from = 1, #ids, IDS_AT_ONCE / 2 do
    local words = {}
    for i = from, math.min(from + IDS_AT_ONCE / 2 - 1, #ids) do
      words[#words + 1], words[#words + 2] = ids[i], values[i]
    end
    redis.call('HSET', generations[which + 1], unpack(words))
  end
  if starts then
    -- It takes ids for as long as it lasts, and the last of them is to be remembered as long again.
    redis.call('PEXPIRE', generations[which + 1], 2 * windowMs)
    redis.call('HSET', state, 'ids', string.format('%d %.0f', which, now))
  end
end
