#!lua flags=allow-oom
-- Changes the settings of a group.
-- KEYS  1 stream  2 groups  3 due  4 held  5 busy  6 sweep
-- ARGV  1 group  2 the settings as they are believed to be stored, as JSON  3 those to store
--       4 "1" when the order changes  5 the lease until now, in ms, when it changes, or ""
-- Reply 1 "done", "changed" when others are stored, which 2 has, "busy" when the order must not change, or "missing"
--@ positions
--@ turns
--@ group
local keys = { stream = KEYS[1], groups = KEYS[2], due = KEYS[3], held = KEYS[4], busy = KEYS[5], sweep = KEYS[6] }
local group = ARGV[1]
-- As many changes as leases can differ by; the oldest are forgotten first.
local MAX_LEASES = 10

local stored = redis.call('HGET', keys.groups, group)
if stored ~= ARGV[2] then
  return { stored and 'changed' or 'missing', stored }
end
local time = redis.call('TIME')
if ARGV[4] == '1' then
  local fields = groupFields(keys, group)
  if fields and fields.pending > 0 or redis.call('ZCARD', keys.due) > 0 or redis.call('ZCARD', keys.held) > 0 then
    return { 'busy' }
  end
  redis.call('UNLINK', keys.busy)
  -- Consumers that go by the old order see by it that they have to look.
  changeBase(keys, time)
  redis.call('HSET', keys.sweep, 'ordered', string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)))
end
if ARGV[5] ~= '' then
  -- Deliveries that are out keep their lease: by when each was taken it is known which one that was. The caller waits until
  -- this is in the past.
  local now = time[1] * 1000 + math.floor(time[2] / 1000) + 2
  local leases, longest = {}, math.max(tonumber(ARGV[5]), cjson.decode(ARGV[3]).leaseMs)
  local changes = (redis.call('HGET', keys.sweep, 'leases') or '') .. string.format(' %.0f:%s', now, ARGV[5])
  for at, leaseMs in string.gmatch(changes, '(%d+):(%d+)') do
    leases[#leases + 1] = { at = at, ms = leaseMs }
    longest = math.max(longest, tonumber(leaseMs))
  end
  local kept = {}
  for i = math.max(1, #leases - MAX_LEASES + 1), #leases do
    -- By then the last delivery of that time has run out by any lease.
    if tonumber(leases[i].at) + longest > now then
      kept[#kept + 1] = leases[i].at .. ':' .. leases[i].ms
    end
  end
  redis.call('HSET', keys.sweep, 'leases', table.concat(kept, ' '))
end
redis.call('HSET', keys.groups, group, ARGV[3])
return { 'done' }
