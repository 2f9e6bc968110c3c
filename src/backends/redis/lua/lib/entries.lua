-- The group that an entry was redriven for; nil for those that are for everybody.
local function groupOf(fields)
  if fields[1] ~= 'm' then
    return nil
  end
  return fields[3] == 'g' and fields[4] or fields[5] == 'g' and fields[6] or nil
end
