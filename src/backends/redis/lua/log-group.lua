#!lua flags=allow-oom
-- Makes a group where it does not exist, makes it anew after it was lost, or moves its cursor.
-- KEYS  1 stream  2 groups  3 attempts  4 due  5 parked  6 dropped  7 sweep  8 busy  9 held  10 paused  11 deleted
--       12 limits
-- ARGV  1 group  2 its settings as JSON, for a new one  3 "create", "restore" or "seek"
--       4 where it starts: "beginning", "new", or the last position it has no interest in
--       5 "1" when that position is a time, which may lie in the future
--       6 position up to which entries were counted, or ""  7 how many were counted
-- Reply 1 "done", "lost" (its settings were there and the group was not), or "missing" (there is none to restore or to
--         seek: it was never made, or was deleted), 2 the settings stored;
--       or 1 "count", 2 and 3 the values of ARGV 6 and 7 to go on with
--@ positions
--@ turns
--@ group
local keys = {
  stream = KEYS[1], groups = KEYS[2], attempts = KEYS[3], due = KEYS[4], parked = KEYS[5], dropped = KEYS[6],
  sweep = KEYS[7], busy = KEYS[8], held = KEYS[9], paused = KEYS[10], deleted = KEYS[11],
  limits = KEYS[12],
}
local group, mode = ARGV[1], ARGV[3]
-- What one call counts, in about a millisecond.
local PAGE, SLICE, SLICE_BYTES = 20, 1000, 500000

local stored = redis.call('HGET', keys.groups, group)
local wasDeleted = redis.call('HGET', keys.deleted, group)
if (mode == 'seek' and not stored) or (mode == 'restore' and wasDeleted) then
  return { 'missing' }
end
local exists = groupFields(keys, group) ~= nil
if exists and mode ~= 'seek' then
  if not stored then
    redis.call('HSET', keys.groups, group, ARGV[2])
  end
  return { 'done', stored or ARGV[2] }
end

local lost = not exists and (stored or mode == 'restore')
local from = lost and mode ~= 'seek' and 'beginning' or ARGV[4]
local time = redis.call('TIME')
local added, length, last = 0, 0, '0-0'
if redis.call('EXISTS', keys.stream) == 1 then
  local info = fieldsOf(redis.call('XINFO', 'STREAM', keys.stream))
  added, length, last = info['entries-added'], info.length, info['last-generated-id']
end

local start, read
if from == 'beginning' then
  start, read = '0-0', added - length
elseif ARGV[5] == '1' and partsOf(from) >= tonumber(time[1]) * 1000 and not isBefore(from, last) then
  -- What is appended until then is not for this group, and what it will be is not known.
  start = from
elseif from == 'new' or not isBefore(from, last) then
  start, read = last, added
else
  -- How many entries are before the start has to be counted, or the group's lag would never be known.
  local after = ARGV[6] == '' and from or ARGV[6]
  local counted, bytes, stopAt = tonumber(ARGV[7]), 0, tonumber(ARGV[7]) + SLICE
  repeat
    local page = redis.call('XRANGE', keys.stream, '(' .. after, '+', 'COUNT', PAGE)
    for _, entry in ipairs(page) do
      after, bytes = entry[1], bytes + #entry[2][2]
    end
    counted = counted + #page
    if #page == PAGE and (counted >= stopAt or bytes >= SLICE_BYTES) then
      return { 'count', after, tostring(counted) }
    end
  until #page < PAGE
  start, read = from, math.max(0, added - counted)
end

forgetUnfinished(keys, group)
if exists then
  -- With all that is pending. Consumers that block on it hear of this, and look again.
  redis.call('XGROUP', 'DESTROY', keys.stream, group)
end
if mode == 'seek' then
  redis.call('HDEL', keys.sweep, 'after', 'checked', 'unheld')
else
  redis.call('HDEL', keys.dropped, group)
  redis.call('HDEL', keys.sweep, 'after', 'began', 'leases', 'checked', 'unheld')
  redis.call('HSET', keys.sweep, 'progress', string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)))
end
if lost or wasDeleted or mode == 'seek' then
  changeBase(keys, time)
end
redis.call('HDEL', keys.deleted, group)
-- Counts of what groups have read hold on the server that made them.
if redis.call('HEXISTS', keys.limits, 'server') == 0 then
  local server = redis.pcall('INFO', 'server')
  redis.call('HSET', keys.limits, 'server', type(server) == 'string' and string.match(server, 'run_id:(%w+)') or '')
end
setCursor(keys, group, start, read, true)
if not stored then
  redis.call('HSET', keys.groups, group, ARGV[2])
end
return { lost and 'lost' or 'done', stored or ARGV[2] }
