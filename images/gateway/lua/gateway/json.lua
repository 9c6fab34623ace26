-- JSON from strangers: a strict scanner over bytes that allocates what it is asked for and nothing else. Grammar of RFC 8259;
-- names that an object has twice, lone surrogates and nesting beyond DEPTH are refused. The text must be valid UTF-8 and end
-- with a NUL, as Lua's strings do: a NUL is valid nowhere in JSON, so no scan leaves the text.

local ffi = require("ffi")
local refusal = require("gateway.refusal")
local values = require("gateway.values")

local refuse, POWERS = refusal.refuse, values.POWERS
local concat, ffi_string = table.concat, ffi.string

local M = {}
local DEPTH, ITEMS = 16, 100000
local left, plain, length = ITEMS, false, 0
ffi.cdef("void *memchr(const void *bytes, int byte, size_t size);")

--- Begins a request of `size` bytes: its objects and lists may have ITEMS items together, besides what `skip_list` leaves to its
--- reader, so that no request becomes many times its size in memory. Where no byte can be an escape or a control character, strings
--- end at their next quote, which C finds: LuaJIT compiles what has no loop inside, and scans four times as fast.
function M.begin(bytes, size)
  left, plain, length = ITEMS, true, size
  for i = 0, size - 1 do
    local c = bytes[i]
    if c < 32 or c == 92 then
      plain = false
      break
    end
  end
end

local function bad(at, what)
  refuse(400, "the request is not valid JSON: %s at byte %d", what, at + 1)
end
M.bad = bad

local function count(at)
  left = left - 1
  if left < 0 then
    bad(at, "more than " .. ITEMS .. " names and values beside the data")
  end
end

--- Index of the next byte that is not white space.
local function space(p, i)
  if p[i] > 32 then -- nearly always: a loop that is not entered lets LuaJIT compile what is around it
    return i
  end
  while true do
    local c = p[i]
    if c ~= 32 and c ~= 10 and c ~= 13 and c ~= 9 then
      return i
    end
    i = i + 1
  end
end
M.space = space

local ESCAPES = { [34] = '"', [92] = "\\", [47] = "/", [98] = "\b", [102] = "\f", [110] = "\n", [114] = "\r", [116] = "\t" }

local function unit(p, i) -- the code unit of `\uXXXX`, of which `i` is the backslash
  local value = 0
  for at = i + 2, i + 5 do
    local c = p[at]
    local digit = c >= 48 and c <= 57 and c - 48 or c >= 97 and c <= 102 and c - 87 or c >= 65 and c <= 70 and c - 55
    if not digit then
      bad(i, "an escape that is not \\u and four hexadecimal digits")
    end
    value = value * 16 + digit
  end
  return value
end

local function utf8_of(code)
  local char, floor = string.char, math.floor
  if code < 0x80 then
    return char(code)
  elseif code < 0x800 then
    return char(0xC0 + floor(code / 64), 0x80 + code % 64)
  elseif code < 0x10000 then
    return char(0xE0 + floor(code / 4096), 0x80 + floor(code / 64) % 64, 0x80 + code % 64)
  end
  return char(0xF0 + floor(code / 262144), 0x80 + floor(code / 4096) % 64, 0x80 + floor(code / 64) % 64, 0x80 + code % 64)
end

local function escape(p, i) -- the text of an escape, and where the next character is
  local plain = ESCAPES[p[i + 1]]
  if plain then
    return plain, i + 2
  elseif p[i + 1] ~= 117 then
    bad(i, "an unknown escape")
  end
  local code = unit(p, i)
  if code < 0xD800 or code > 0xDFFF then
    return utf8_of(code), i + 6
  end
  local low = code < 0xDC00 and p[i + 6] == 92 and p[i + 7] == 117 and unit(p, i + 6) or 0
  if low < 0xDC00 or low > 0xDFFF then
    bad(i, "a lone surrogate, which is no character,")
  end
  return utf8_of(0x10000 + (code - 0xD800) * 1024 + low - 0xDC00), i + 12
end

local function escaped_string(p, start, i)
  local parts, from = {}, start
  while p[i] ~= 34 do
    if p[i] == 92 then
      parts[#parts + 1] = ffi_string(p + from, i - from)
      parts[#parts + 1], i = escape(p, i)
      from = i
    elseif p[i] < 32 then
      bad(i, "a control character, or the end, inside a string")
    else
      i = i + 1
    end
  end
  parts[#parts + 1] = ffi_string(p + from, i - from)
  return concat(parts), i + 1
end

--- The string whose opening quote is at `i`, and the index after it.
local function string_at(p, i)
  local start = i + 1
  if plain then
    local stop = ffi.C.memchr(p + start, 34, length - start)
    if stop ~= nil then
      i = ffi.cast("const uint8_t *", stop) - p
      return ffi_string(p + start, i - start), i + 1
    end
  end
  i = start
  while true do
    local c = p[i]
    if c == 34 then
      return ffi_string(p + start, i - start), i + 1
    elseif c == 92 then
      return escaped_string(p, start, i)
    elseif c < 32 then
      bad(i, "a control character, or the end, inside a string")
    end
    i = i + 1
  end
end
M.string = string_at

--- The number that begins at `i`, correctly rounded to a float64 (infinite beyond it), and the index after it.
local function number_at(p, i)
  local start, c = i, p[i]
  if c == 45 then
    i = i + 1
    c = p[i]
  end
  local mantissa, digits, exponent = 0, i, 0
  while c >= 48 and c <= 57 do
    mantissa = mantissa * 10 + (c - 48)
    i = i + 1
    c = p[i]
  end
  if i == digits or (p[digits] == 48 and i > digits + 1) then
    bad(start, "no value, or a number with leading zeros,")
  end
  digits = i - digits
  if c == 46 then
    local point = i
    i = i + 1
    c = p[i]
    while c >= 48 and c <= 57 do
      mantissa = mantissa * 10 + (c - 48)
      i = i + 1
      c = p[i]
    end
    exponent = point + 1 - i
    if exponent == 0 then
      bad(start, "a number that ends in its point")
    end
    digits = digits - exponent
  end
  if c == 101 or c == 69 then
    i = i + 1
    local sign = p[i]
    if sign == 43 or sign == 45 then
      i = i + 1
    end
    local from, power = i, 0
    c = p[i]
    while c >= 48 and c <= 57 do
      power = power < 100000 and power * 10 + (c - 48) or power
      i = i + 1
      c = p[i]
    end
    if i == from then
      bad(start, "a number without its exponent")
    end
    exponent = exponent + (sign == 45 and -power or power)
  end
  local value
  if digits <= 15 and exponent >= -22 and exponent <= 22 then
    value = exponent < 0 and mantissa / POWERS[-exponent] or mantissa * POWERS[exponent]
    value = p[start] == 45 and -value or value
  else
    value = values.decimal(ffi_string(p + start, i - start))
  end
  return value, i
end
M.number = number_at

--- `true`, `false` or `null` at `i` as Lua's true, false or nil, and the index after it.
local function word_at(p, i)
  local c = p[i]
  if c == 116 and p[i + 1] == 114 and p[i + 2] == 117 and p[i + 3] == 101 then
    return true, i + 4
  elseif c == 102 and p[i + 1] == 97 and p[i + 2] == 108 and p[i + 3] == 115 and p[i + 4] == 101 then
    return false, i + 5
  elseif c == 110 and p[i + 1] == 117 and p[i + 2] == 108 and p[i + 3] == 108 then
    return nil, i + 4
  end
  bad(i, c == 0 and "the end" or "no value")
end
M.word = word_at

--- Calls `on_item(p, i, context)` for each item of the array at `i`; it returns the index after the item.
local function array(p, i, on_item, context)
  if p[i] ~= 91 then
    bad(i, "no list")
  end
  i = space(p, i + 1)
  if p[i] == 93 then
    return i + 1
  end
  while true do
    count(i)
    i = space(p, on_item(p, i, context))
    if p[i] == 93 then
      return i + 1
    elseif p[i] ~= 44 then
      bad(i, "neither a comma nor the list's end")
    end
    i = space(p, i + 1)
  end
end
M.array = array

--- Calls `on_member(name, p, i, context)` for each member of the object at `i`; it returns the index after the value.
local function object(p, i, on_member, context)
  if p[i] ~= 123 then
    bad(i, "no object")
  end
  i = space(p, i + 1)
  if p[i] == 125 then
    return i + 1
  end
  local seen, name = {}, nil
  while true do
    if p[i] ~= 34 then
      bad(i, "no name in quotes")
    end
    count(i)
    local from = i
    name, i = string_at(p, i)
    if seen[name] then
      bad(from, "a name that was there before,")
    end
    seen[name] = true
    i = space(p, i)
    if p[i] ~= 58 then
      bad(i, "no colon after a name")
    end
    i = space(p, on_member(name, p, space(p, i + 1), context))
    if p[i] == 125 then
      return i + 1
    elseif p[i] ~= 44 then
      bad(i, "neither a comma nor the object's end")
    end
    i = space(p, i + 1)
  end
end
M.object = object

local value_at

local function add_item(p, i, context)
  context.n = context.n + 1
  context.into[context.n], i = value_at(p, i, context.depth)
  return i
end

local function add_member(name, p, i, context)
  context.into[name], i = value_at(p, i, context.depth)
  return i
end

--- The value at `i` as Lua's, and the index after it. Null is nil, so a list with nulls has holes.
function value_at(p, i, depth)
  local c, into = p[i], {}
  if c == 34 then
    return string_at(p, i)
  elseif c == 45 or (c >= 48 and c <= 57) then
    return number_at(p, i)
  elseif c ~= 91 and c ~= 123 then
    return word_at(p, i)
  elseif depth >= DEPTH then
    bad(i, "nesting deeper than " .. DEPTH)
  elseif c == 91 then
    return into, array(p, i, add_item, { into = into, n = 0, depth = depth + 1 })
  end
  return into, object(p, i, add_member, { into = into, depth = depth + 1 })
end
M.value = value_at

--- The index after the list at `i`, of which only brackets and quotes are looked at: who reads its items checks them.
function M.skip_list(p, i)
  local from, depth = i, 0
  while true do
    local c = p[i]
    if c == 34 then
      i = i + 1
      while p[i] ~= 34 do
        if p[i] == 92 then
          i = i + 1
        end
        if p[i] == 0 then
          bad(i, "the end inside a string")
        end
        i = i + 1
      end
    elseif c == 91 then
      depth = depth + 1
      if depth > DEPTH then
        bad(i, "nesting deeper than " .. DEPTH)
      end
    elseif c == 93 then
      depth = depth - 1
      if depth == 0 then
        return i + 1
      end
    elseif c == 0 or c == 123 or c == 125 or depth == 0 then
      bad(i, c == 0 and "the end inside a list" or i == from and "no list" or "an object in the data")
    end
    i = i + 1
  end
end

local QUOTED = { ['"'] = '\\"', ["\\"] = "\\\\", ["\b"] = "\\b", ["\f"] = "\\f", ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t" }

--- A string of JSON. Bytes that are not UTF-8 become question marks.
function M.quote(text)
  if text:find("[\128-\255]") and not values.is_utf8(ffi.cast("const uint8_t *", text), #text) then
    text = text:gsub("[\128-\255]", "?")
  end
  if text:find('[%c"\\]') then
    text = text:gsub('[%c"\\]', function(c) return QUOTED[c] or ("\\u%04x"):format(c:byte()) end)
  end
  return '"' .. text .. '"'
end

return M
