-- The text of a value, and the value of a text: modelship_trainer/values.py, which training reads data with, in Lua.
-- Both are tested against tests/support/values.json.

local bit = require("bit")
local ffi = require("ffi")

local band = bit.band
local byte, find, format, match, sub = string.byte, string.find, string.format, string.match, string.sub
local abs, floor, HUGE = math.abs, math.floor, math.huge

ffi.cdef([[
  ssize_t utf8proc_map(const uint8_t *text, ssize_t length, uint8_t **result, int options);
  void free(void *memory);
]])
local utf8proc = ffi.load("libutf8proc.so.2")
local NFC = 2 + 8 -- UTF8PROC_STABLE, UTF8PROC_COMPOSE

local M = {}
local single = ffi.new("float[1]")
local POWERS, DECIMALS = {}, {}
for exponent = 0, 22 do
  POWERS[exponent] = tonumber("1e" .. exponent)
  DECIMALS[exponent] = "%." .. exponent .. "f"
end
M.POWERS = POWERS

--- The float32 nearest to `value`: infinite where it is beyond all of them.
local function to_single(value)
  single[0] = value
  return single[0]
end

--- `value` in `digits` digits, as Python's repr lays them out.
local function laid_out(value, digits)
  local mantissa, exponent = match(format("%." .. digits - 1 .. "e", abs(value)), "^([%d.]+)e([+-]%d+)$")
  mantissa, exponent = mantissa:gsub("%.", ""):gsub("0+$", ""), tonumber(exponent)
  local sign = value < 0 and "-" or ""
  if exponent < -4 or exponent >= 16 then
    local rest = sub(mantissa, 2)
    return format("%s%s%se%s%02d", sign, sub(mantissa, 1, 1), rest ~= "" and "." .. rest or "", exponent < 0 and "-" or "+", abs(exponent))
  elseif exponent < 0 then
    return sign .. "0." .. ("0"):rep(-exponent - 1) .. mantissa
  elseif #mantissa <= exponent + 1 then
    return sign .. mantissa .. ("0"):rep(exponent + 1 - #mantissa)
  end
  return sign .. sub(mantissa, 1, exponent + 1) .. "." .. sub(mantissa, exponent + 2)
end

-- The text of what has no digits behind its point: NaN, whole numbers, infinities; else nil.
local function text_without_digits(value)
  if value ~= value then
    return ""
  elseif value == floor(value) and abs(value) < 1e16 then
    return value == 0 and "0" or format("%.0f", value)
  elseif abs(value) == HUGE then
    return value > 0 and "inf" or "-inf"
  end
end

--- The shortest text that reads back as this float64; "" for NaN.
function M.double_text(value)
  local plain = text_without_digits(value)
  if plain then
    return plain
  end
  local digits = abs(value) < 2.3e-308 and 1 or 15 -- what is shorter comes out with zeros at its end, except of subnormals
  while digits < 17 and tonumber(format("%." .. digits .. "g", value)) ~= value do
    digits = digits + 1
  end
  return laid_out(value, digits)
end

--- The shortest text that reads back as this float32; "" for NaN.
function M.single_text(value)
  local plain = text_without_digits(value)
  if plain then
    return plain
  end
  local size = abs(value)
  if size >= 1e-4 and size < 1 then -- probabilities
    local first = size >= 0.1 and 6 or size >= 0.01 and 7 or size >= 0.001 and 8 or 9
    for decimals = first, first + 3 do
      local candidate = floor(size * POWERS[decimals] + 0.5) / POWERS[decimals]
      if to_single(candidate) == size then
        local text = format(DECIMALS[decimals], value < 0 and -candidate or candidate)
        return decimals > first and text or match(text, "^(.-)0*$")
      end
    end
  end
  local digits = size < 1.2e-38 and 1 or 6
  while digits < 9 and to_single(tonumber(format("%." .. digits .. "g", value))) ~= value do
    digits = digits + 1
  end
  return laid_out(tonumber(format("%." .. digits .. "g", value)), digits)
end

--- The value of a decimal number's text, of whatever length. LuaJIT reads no exponents of six digits: those are 0, or infinite.
local function decimal(text)
  local value = tonumber(text)
  if not value then
    local digits, sign = match(text, "^[+-]?([0-9.]*)[eE]?([+-]?)")
    value = (sign == "-" or not find(digits, "[1-9]")) and 0 or HUGE
    value = byte(text) == 45 and -value or value
  end
  return value
end
M.decimal = decimal

--- The value of a number's text; NaN for blank text; nil where it is no number, or beyond float64.
function M.number_of(text)
  local body = match(text, "^[ \t]*(.-)[ \t]*$")
  if body == "" then
    return 0 / 0
  end
  local digits, exponent = match(body, "^[+-]?([0-9.]+)(.*)$")
  if not digits or not (match(digits, "^[0-9]+%.?[0-9]*$") or match(digits, "^%.[0-9]+$")) then
    return nil
  elseif exponent ~= "" and not match(exponent, "^[eE][+-]?[0-9]+$") then
    return nil
  end
  local value = decimal((body:gsub("^%+", "")))
  return abs(value) < HUGE and value or nil
end

--- Whether `length` bytes at `bytes` (const uint8_t *) are UTF-8: no overlong forms, no surrogates, nothing beyond U+10FFFF.
function M.is_utf8(bytes, length)
  local at = 0
  while at < length do
    local first = bytes[at]
    if first < 0x80 then
      at = at + 1
    else
      local more, low, high = 0, 0x80, 0xBF
      if first >= 0xC2 and first <= 0xDF then
        more = 1
      elseif first >= 0xE0 and first <= 0xEF then
        more = 2
        if first == 0xE0 then low = 0xA0 elseif first == 0xED then high = 0x9F end
      elseif first >= 0xF0 and first <= 0xF4 then
        more = 3
        if first == 0xF0 then low = 0x90 elseif first == 0xF4 then high = 0x8F end
      else
        return false
      end
      if at + more >= length or bytes[at + 1] < low or bytes[at + 1] > high then
        return false
      end
      for next = at + 2, at + more do
        if band(bytes[next], 0xC0) ~= 0x80 then
          return false
        end
      end
      at = at + more + 1
    end
  end
  return true
end

local result = ffi.new("uint8_t *[1]")

--- Text in Unicode's NFC; nil where it is not UTF-8.
function M.nfc(text)
  if not find(text, "[\128-\255]") then
    return text
  elseif not M.is_utf8(ffi.cast("const uint8_t *", text), #text) then
    return nil
  end
  local length = utf8proc.utf8proc_map(text, #text, result, NFC)
  if length < 0 then
    return nil
  end
  local normal = ffi.string(result[0], length)
  ffi.C.free(result[0])
  return normal
end

local BOOLEANS = {
  ["true"] = "true", True = "true", TRUE = "true", ["false"] = "false", False = "false", FALSE = "false",
}

--- The significant digits of a number's text.
local function significant(text)
  return (match(text, "^-?([0-9.]+)"):gsub("%.", ""):gsub("^0+", ""):gsub("0+$", ""))
end

--- Text of a column as training writes it, which had numbers or booleans there, if it is one: `1.0` is `1`, and `True` is `true`.
function M.normal_text(text, kind)
  if kind == "boolean" then
    return BOOLEANS[text] or text
  end
  if match(text, "^-?[1-9]%.%d+e[+-]%d%d%d?$") or match(text, "^-?[1-9]e[+-]%d%d%d?$") then
    return M.double_text(tonumber(text))
  end
  local whole_part, fraction = match(text, "^(-?%d+)%.?(%d*)$")
  if not whole_part or match(text, "^-?0%d") or sub(text, -1) == "." then
    return text
  end
  fraction = fraction:gsub("0+$", "")
  if fraction == "" then
    return whole_part == "-0" and "0" or whole_part
  end
  local nearest = M.double_text(tonumber(text))
  return significant(nearest) == significant(text) and nearest or whole_part .. "." .. fraction
end

return M
