-- Answers calls of the tests, a line of JSON each, with a line of JSON: {"call": name, "arguments": [...]} -> {"result": ...}.
-- Bytes travel as hexadecimal digits.
package.path = arg[1] .. "/?.lua;" .. package.path
local cjson = require("cjson")
local ffi = require("ffi")
local grpc_request = require("gateway.grpc_request")
local http_request = require("gateway.http_request")
local json = require("gateway.json")
local model_of = require("gateway.model")
local packer = require("gateway.pack")
local refusal = require("gateway.refusal")
local values = require("gateway.values")

local function unhex(digits)
  return (digits:gsub("..", function(pair) return string.char(tonumber(pair, 16)) end))
end

local function hex(bytes)
  return (bytes:gsub(".", function(c) return ("%02x"):format(c:byte()) end))
end

local function bytes_of(text)
  return ffi.cast("const uint8_t *", text)
end

local CALLS = {}

function CALLS.number_of(digits)
  local value = values.number_of(unhex(digits))
  return value and hex(ffi.string(ffi.new("double[1]", value), 8)) or "none"
end

function CALLS.double_text(value) return values.double_text(value) end
function CALLS.single_text(value) return values.single_text(value) end
function CALLS.normal_text(digits, kind) return hex(values.normal_text(unhex(digits), kind)) end
function CALLS.nfc(digits)
  local text = values.nfc(unhex(digits))
  return text and hex(text) or "none"
end

function CALLS.json_number(text)
  local value = json.number(bytes_of(text), 0)
  return hex(ffi.string(ffi.new("double[1]", value), 8))
end

function CALLS.json_string(digits)
  local text = unhex(digits)
  json.begin(bytes_of(text), #text)
  local value, stop = json.string(bytes_of(text), 0)
  return { hex(value), stop }
end

-- A request's tensors, or the refusal.
local function packed(signature, most, request)
  local rows, tensors = packer.pack(model_of.make("m", signature, most), request)
  local found = {}
  for index, tensor in ipairs(tensors) do
    found[index] = {
      name = tensor.name, dtype = tensor.dtype, shape = tensor.shape,
      bytes = hex(tensor.text or ffi.string(tensor.pointer, tensor.size)),
    }
  end
  return { rows = rows, tensors = found, id = request.id }
end

function CALLS.http(signature, most, body, header)
  return packed(signature, most, http_request.read(unhex(body), header ~= cjson.null and header or nil))
end

function CALLS.grpc(signature, most, body)
  return packed(signature, most, grpc_request.read(unhex(body)))
end

for line in io.lines() do
  local asked = cjson.decode(line)
  local ok, result = xpcall(
    function() return CALLS[asked.call](unpack(asked.arguments, 1, 4)) end,
    function(caught)
      return refusal.is(caught) and { status = caught.status, message = caught.message } or debug.traceback(tostring(caught), 2)
    end
  )
  io.write(cjson.encode(ok and { result = result } or type(result) == "table" and { refused = result } or { failed = result }), "\n")
  io.flush()
end
