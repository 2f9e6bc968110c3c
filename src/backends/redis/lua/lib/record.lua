-- What stands in front of a record's header, line feed, data, so that its tickets can be made of it:
--   ["\1" <expiresAt>] <line> <item>                                            of the shared recipient, with few digits
--   ["\1" <expiresAt>] <line> "\127\127" <digits> "|" <priority> "|" <recipient> ["@" <at>] "\n"            of any other
-- `line` is the push's place in 6 bytes, of which the first is 128 or more; `item` are two bytes of seven bits each, with the
-- item's place in the push times 16 plus its priority; `digits` are the former as in tickets, and `recipient` is "*" where
-- several may have the item; `at` is when it was pushed, where the line does not tell. What comes behind the line is made by
-- records.ts. Records of earlier builds have nothing in front.

-- When a place was given, as text; nil for those that earlier builds gave, which were counted from 1.
local function timeOfPlace(place)
  local ms = math.floor(tonumber(string.sub(place, 1, 9), 36) / PLACES_PER_MS)
  return ms >= 1000000000000 and string.format('%.0f', ms) or nil
end

-- Place, expiry or '', priority and recipient of a record, where its message begins, and when it was pushed, if the place
-- does not tell that; nil where nothing is known.
local function readRecord(record)
  local expiresAt, at = string.match(record, '^\1(%d+)()')
  at = at or 1
  local a, b, c, d, e, f, high, low = string.byte(record, at, at + 7)
  if not low or a < 128 or a > 191 then
    return nil
  end
  local line = toBase36(((((((a - 128) * 256 + b) * 256 + c) * 256 + d) * 256 + e) * 256 + f), 9)
  expiresAt = expiresAt or ''
  if high ~= 127 or low ~= 127 then
    local item = high * 128 + low
    local place, priority = line .. toBase36(math.floor(item / 16), 3), string.format('%d', item % 16)
    return { place = place, expiresAt = expiresAt, priority = priority, recipient = '', start = at + 8 }
  end
  local digits, priority, recipient, pushedAt, start =
    string.match(record, '^(%w%w%w)|(%-?%d+)|([^@\n]*)@?(%d*)\n()', at + 8)
  return {
    place = line .. digits, expiresAt = expiresAt, priority = priority, recipient = recipient, start = start,
    at = pushedAt ~= '' and pushedAt or nil,
  }
end

-- The tickets that a recipient may have an item by: what was put back does not expire any more, also where others' does.
local function ticketsOf(read, id)
  local mark = read.recipient == '*' and '*' or ''
  local tail = '|' .. read.priority .. '|' .. id
  local tickets = { read.place .. mark .. read.expiresAt .. tail }
  if mark ~= '' and read.expiresAt ~= '' then
    tickets[2] = read.place .. mark .. tail
  end
  return tickets
end
