#!lua flags=allow-oom
-- Reads what a consumer already holds, because a reply may have been lost on its way.
-- KEYS  1 stream  2 attempts
-- ARGV  1 group  2 consumer  3 position behind which to read  4 how many
-- Reply 1 the last position read, or "" when there are no more  2 receipts  3… the blob of each
local reply = redis.pcall('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', ARGV[4], 'STREAMS', KEYS[1], ARGV[3])
local entries = not reply.err and reply[1] and reply[1][2] or {}
local receipts, out = {}, {}
for _, entry in ipairs(entries) do
  local position, fields = entry[1], entry[2]
  -- What has no entry any more is left to the sweep, which counts it.
  if fields then
    local state = redis.call('HGET', KEYS[2], position)
    receipts[#receipts + 1] = state and position .. '/' .. string.gsub(state, ' ', '/') or position
    out[#receipts + 2] = fields[1] == 'm' and fields[2] or '\n' .. cjson.encode(fields)
  end
end
out[1] = #entries == tonumber(ARGV[4]) and entries[#entries][1] or ''
out[2] = table.concat(receipts, ' ')
return out
