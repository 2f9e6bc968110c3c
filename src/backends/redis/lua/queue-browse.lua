#!lua flags=allow-oom
-- Reads a page of what a recipient has not finished: what waits, what is delayed, what is leased.
-- KEYS  1 records  2 state  3 expiring  4 one that never exists  5 waiting  6 leased  7 due  8 attempts  9 expiry  10 counters
-- ARGV  1 recipient, as in keys  2 how many
--       3 which of the three to read, "w", "d" or "l" each: the first is where to go on
--       4 score and 5 ticket of the last one that was read, or ""
-- Reply 1 "MORE" when it has to be called again; or "OK"  2 1 when there are more
--       3… five of each: "w", "d" or "l", score, ticket, what `attempts` says of it, record or "" where there is none
--@ keyspace
--@ slices
--@ clock
--@ names
--@ tickets
--@ attempts
--@ line
--@ record
local inbox = {
  recipient = ARGV[1], expiring = KEYS[3], waiting = KEYS[5], leased = KEYS[6], due = KEYS[7], attempts = KEYS[8],
  expiry = KEYS[9], counters = KEYS[10],
}
local SECTIONS = { w = inbox.waiting, d = inbox.due, l = inbox.leased }
-- A page may be short: it ends when it has grown so large.
local MAX_BYTES = 1000000

local now = nowMs()
local stored = redis.call('HGET', KEYS[2], 'records')
local settings = stored and stored ~= '' and cjson.decode(stored)
--@ finishing
--@ expiry
--@ promoting
local ids, more = expireWaiting(inbox)
if #ids > 0 then
  redis.call('HINCRBY', inbox.counters, 'unreported', #ids)
end
if promoteDue() or more then
  return { 'MORE' }
end

-- How many stand up to a score and ticket, or where that stood.
local function rankBehind(key, score, ticket)
  local low = redis.call('ZCOUNT', key, '-inf', '(' .. score)
  local high = low + redis.call('ZCOUNT', key, score, score)
  while low < high do
    local middle = math.floor((low + high) / 2)
    if isOlder(ticket, redis.call('ZRANGE', key, middle, middle)[1]) then
      high = middle
    else
      low = middle + 1
    end
  end
  return low
end

local max, bytes = tonumber(ARGV[2]), 0
local result = { 'OK', 0 }

-- Adds what a section has from a rank on; false when the page is full.
local function add(section, rank)
  local flat = redis.call('ZRANGE', SECTIONS[section], rank, rank + max, 'WITHSCORES')
  for i = 1, #flat, 2 do
    local ticket = flat[i]
    if (#result - 2) / 5 >= max or bytes >= MAX_BYTES then
      return false
    end
    local record = redis.call('HGET', KEYS[1], idOf(ticket)) or ''
    local known = redis.call('HGET', inbox.attempts, ticket) or ''
    bytes = bytes + #record
    for _, word in ipairs({ section, flat[i + 1], ticket, known, record }) do
      result[#result + 1] = word
    end
  end
  return true
end

local isFirst = true
for section in string.gmatch(ARGV[3], '.') do
  local rank = isFirst and ARGV[5] ~= '' and rankBehind(SECTIONS[section], ARGV[4], ARGV[5]) or 0
  isFirst = false
  if not add(section, rank) then
    result[2] = 1
    break
  end
end
return result
