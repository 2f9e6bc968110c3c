-- What a publisher's earlier batches came to, so that a batch is stored once and never overtakes the one before it.
-- The hash: `n` the last batch decided on, `r<slot>` "<batch> <result>", `x` when its expiry was last put off.
local REMEMBER_MS = 600000

-- Returns the result of a batch that was decided on before, or nil and when the expiry was last put off.
local function earlierResult(key, number, behind, slot)
  local state = redis.call('HMGET', key, 'n', 'x', 'r' .. slot)
  local decided = tonumber(state[1] or 0)
  if number > decided then
    return behind > decided and 'GAP' or nil, tonumber(state[2] or 0)
  end
  -- A write: behind it, WAIT covers on a new connection what was stored on the old one.
  redis.call('PEXPIRE', key, REMEMBER_MS)
  local of, result = string.match(state[3] or '', '^(%d+) (.*)$')
  return tonumber(of) == number and result or 'FORGOTTEN'
end

local function remember(key, number, slot, result, nowMs, putOffMs)
  local sinceMs = nowMs - putOffMs
  if sinceMs < 0 or sinceMs > REMEMBER_MS / 10 then
    redis.call('HSET', key, 'n', number, 'r' .. slot, number .. ' ' .. result, 'x', nowMs)
    redis.call('PEXPIRE', key, REMEMBER_MS)
  else
    redis.call('HSET', key, 'n', number, 'r' .. slot, number .. ' ' .. result)
  end
  return result
end
