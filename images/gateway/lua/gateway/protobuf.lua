-- Protocol Buffers' wire format: a bounds-checked walk over a message's fields, and the writing of small ones.

local bit = require("bit")
local ffi = require("ffi")
local refusal = require("gateway.refusal")

local band, rshift = bit.band, bit.rshift
local char, floor = string.char, math.floor
local refuse = refusal.refuse

local M = {}
M.VARINT, M.FIXED64, M.BYTES, M.FIXED32 = 0, 1, 2, 5

local function broken()
  refuse(400, "the message is not a valid Protocol Buffers message of this call")
end
M.broken = broken

--- The varint at `i`, as a number (two's complement of negative ones), and the index after it. `stop` is where the message ends.
local function varint(p, i, stop)
  local value, scale = 0, 1
  for count = 1, 10 do
    if i >= stop then
      broken()
    end
    local c = p[i]
    i = i + 1
    value = value + band(c, 127) * scale
    if c < 128 then
      if count == 10 then
        if c > 1 then
          broken()
        end
        value = value - 18446744073709551616 -- the sign: ten bytes are 64 bits
      end
      return value, i
    end
    scale = scale * 128
  end
  broken()
end
M.varint = varint

--- Calls `on_field(number, type, p, from, to, context)` for each field from `i` to `stop`. A varint is at `from`; of the others
--- `from` to `to` is the value.
function M.fields(p, i, stop, on_field, context)
  while i < stop do
    local tag, from, to
    tag, i = varint(p, i, stop)
    local type = tag % 8
    local number = (tag - type) / 8
    if number < 1 or number > 536870911 then
      broken()
    end
    from = i
    if type == 0 then
      local _
      _, to = varint(p, i, stop)
    elseif type == 1 then
      to = i + 8
    elseif type == 5 then
      to = i + 4
    elseif type == 2 then
      local length
      length, from = varint(p, i, stop)
      to = from + length
      if length < 0 then
        broken()
      end
    else
      broken() -- groups, and what does not exist
    end
    if to > stop then
      broken()
    end
    on_field(number, type, p, from, to, context)
    i = to
  end
end

--- Bytes of a field; refuses it where its wire type is another.
function M.bytes(type, p, from, to)
  if type ~= 2 then
    broken()
  end
  return ffi.string(p + from, to - from)
end

local function number_text(value) -- of a whole number from 0 on
  if value < 128 then
    return char(value)
  end
  return char(value % 128 + 128) .. number_text(floor(value / 128))
end

--- A field of bytes, a text or a message.
function M.field(number, bytes)
  return number_text(number * 8 + 2) .. number_text(#bytes) .. bytes
end

--- The beginning of such a field, of which the `length` bytes come after it.
function M.field_head(number, length)
  return number_text(number * 8 + 2) .. number_text(length)
end

--- A whole number from 0 on, or a boolean; nothing where it is the default.
function M.number_field(number, value)
  value = value == true and 1 or value or 0
  return value == 0 and "" or number_text(number * 8) .. number_text(value)
end

--- A packed list of int64; -1 is the only negative one that shapes have.
function M.shape_field(number, shape)
  local parts = {}
  for index, size in ipairs(shape) do
    parts[index] = size < 0 and "\255\255\255\255\255\255\255\255\255\1" or number_text(size)
  end
  return M.field(number, table.concat(parts))
end

--- The message in a gRPC frame: one, not compressed, and whole.
function M.unframed(body)
  if #body < 5 then
    refuse(400, "the call carries no whole message")
  end
  local flag, a, b, c, d = body:byte(1, 5)
  local length = ((a * 256 + b) * 256 + c) * 256 + d
  if flag ~= 0 then
    refuse(415, "compressed messages are not accepted")
  elseif length ~= #body - 5 then
    refuse(400, "the call must carry one message: its length is %.0f bytes, and %d came", length, #body - 5)
  end
  return ffi.cast("const uint8_t *", body), 5, #body
end

--- The head of a gRPC frame for a message of `length` bytes.
function M.frame_head(length)
  return char(0, band(rshift(length, 24), 255), band(rshift(length, 16), 255), band(rshift(length, 8), 255), band(length, 255))
end

return M
