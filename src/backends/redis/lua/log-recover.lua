#!lua flags=allow-oom
-- Reads what a consumer already holds, because a reply may have been lost on its way.
-- KEYS  1 stream  2 attempts  3 groups  4 parked  5 sweep  6 busy  7 held
-- ARGV  1 group  2 consumer  3 position behind which to read  4 how many
-- Reply 1 the last position read, or "" when there are no more  2 the group's base
--       3 receipts, of first deliveries just the position  4… the blob of each
--@ positions
--@ entries
--@ deliveries
--@ turns
--@ adopting
local stream, group = KEYS[1], ARGV[1]
local keys = { stream = stream, parked = KEYS[4], busy = KEYS[6], held = KEYS[7] }
local known = redis.call('HMGET', KEYS[5], 'base', 'ordered')
local base = known[1] or '0'
local settings = redis.call('HGET', KEYS[3], group)
local order = settings and cjson.decode(settings).order or 'none'
if order ~= 'none' then
  adopt(keys, group, order, known[2])
end
local reply = redis.pcall('XREADGROUP', 'GROUP', group, ARGV[2], 'COUNT', ARGV[4], 'STREAMS', stream, ARGV[3])
local entries = not reply.err and reply[1] and reply[1][2] or {}

local own, others, positions = {}, {}, {}
for _, entry in ipairs(entries) do
  -- What has no entry any more is left to the sweep, which counts it.
  if entry[2] and (groupOf(entry[2]) or group) == group then
    own[#own + 1] = entry
  elseif entry[2] then
    others[#others + 1] = entry[1]
  end
end
if #others > 0 then
  redis.call('XACK', stream, group, unpack(others))
end
if order ~= 'none' then
  -- It may have been read while the group had no order.
  own = admit(keys, group, order, own)
end
for i, entry in ipairs(own) do
  positions[i] = entry[1]
end
local receipts, out = {}, {}
for i, state in ipairs(#positions > 0 and redis.call('HMGET', KEYS[2], unpack(positions)) or {}) do
  receipts[i] = receiptOf(positions[i], state)
  out[i + 3] = blobOf(own[i][2])
end
out[1] = #entries == tonumber(ARGV[4]) and entries[#entries][1] or ''
out[2] = base
out[3] = table.concat(receipts, ' ')
return out
