#!lua flags=allow-oom
-- Counts a stream and some of its groups, all at one moment.
-- KEYS  1 stream  2 groups  3 limits  4 paused, then for each group 5… due, dead, sweep, held
-- ARGV  1 the name of the first group, then those of the others
-- Reply 1 ms now  2 entries  3 the oldest position, or ""  4 the newest  5 the retention stored, as JSON, or ""
--       6 entries ever added  7 entries removed without the groups' knowledge, by whomever  8 the last position ever given
--       9… for each group that exists: name, settings as JSON or "", cursor, "1" when it is paused, deliveries pending,
--         the oldest of them or "", waiting for their retry, held, dead letters, ms of its last progress or "",
--         entries it has had by its own count or "", entries behind its cursor or "" where they have to be counted,
--         the first of them or ""
--@ positions
--@ entries
--@ room
local keys = { stream = KEYS[1], limits = KEYS[3], paused = KEYS[4] }
-- Where no more are left, those for other groups are told apart.
local TOLD_APART = 1000
local LOOKED_AT = 100

local time = redis.call('TIME')
local limits = redis.call('HMGET', keys.limits, 'retention', 'removed', 'redriven')
local info, groups = { length = 0, ['entries-added'] = 0, ['last-generated-id'] = '0-0' }, {}
if redis.call('EXISTS', keys.stream) == 1 then
  info, groups = fieldsOf(redis.call('XINFO', 'STREAM', keys.stream)), groupsOf(keys)
end
local oldest, newest = '', ''
if info.length > 0 then
  oldest, newest = info['first-entry'][1], info['last-entry'][1]
end
local added = info['entries-added']
local unknown = added - info.length - (limits[2] or 0)
local redriven = limits[3] or '0-0'

-- How many entries are behind a cursor; nil where the count that Redis keeps for the group is not to be trusted.
local function lagOf(cursor, read)
  if info.length == 0 or not isBefore(cursor, newest) then
    return 0
  end
  local lag
  if isBefore(cursor, oldest) then
    lag = info.length
  elseif read and unknown == 0 and not isBefore(cursor, info['max-deleted-entry-id']) then
    lag = added - read
  end
  return lag and (lag > TOLD_APART or not isBefore(cursor, redriven)) and lag or nil
end

-- The first entry behind a cursor that is for a group, as far as that is found quickly. Groups often stand together.
local pages = {}
local function firstFor(name, cursor)
  local count = isBefore(cursor, redriven) and LOOKED_AT or 1
  pages[cursor] = pages[cursor] or redis.call('XRANGE', keys.stream, '(' .. cursor, '+', 'COUNT', count)
  local page = pages[cursor]
  for _, entry in ipairs(page) do
    if (groupOf(entry[2]) or name) == name then
      return entry[1]
    end
  end
  return #page == count and page[count][1] or ''
end

local out = {
  string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)),
  info.length, oldest, newest, limits[1] or '', added, unknown, info['last-generated-id'],
}
local function add(value)
  out[#out + 1] = value or ''
end
for i, name in ipairs(ARGV) do
  local group, at = groups[name], 4 * i
  if group then
    local cursor, read = group['last-delivered-id'], group['entries-read']
    local lag = lagOf(cursor, read)
    add(name)
    add(redis.call('HGET', KEYS[2], name))
    add(cursor)
    add(group.paused and '1')
    add(group.pending)
    add(group.pending > 0 and redis.call('XPENDING', keys.stream, name)[2])
    add(redis.call('ZCARD', KEYS[at + 1]))
    add(redis.call('ZCARD', KEYS[at + 4]))
    add(redis.call('XLEN', KEYS[at + 2]))
    add(redis.call('HGET', KEYS[at + 3], 'progress'))
    add(read)
    add(lag)
    add(lag ~= 0 and firstFor(name, cursor))
  end
end
return out
