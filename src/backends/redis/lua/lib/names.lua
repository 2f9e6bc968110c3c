-- Names as they stand in keys, and as they are: what keys.ts calls encodeName and decodeName.
local function encodeName(name)
  return (string.gsub(name, '[^%w_.-]', function(char)
    return string.format('%%%02X', string.byte(char))
  end))
end

local function decodeName(encoded)
  return (string.gsub(encoded, '%%(%x%x)', function(digits)
    return string.char(tonumber(digits, 16))
  end))
end
