-- An inference request over gRPC (inference.ModelInferRequest), as http_request.lua describes requests.

local ffi = require("ffi")
local http_request = require("gateway.http_request")
local protobuf = require("gateway.protobuf")
local refusal = require("gateway.refusal")
local values = require("gateway.values")

local refuse, shown = refusal.refuse, refusal.shown
local varint = protobuf.varint

local M = {}
local LISTED = 65536 -- values of a request in lists: who sends more sends raw_input_contents, which are memory as it is

local function text_of(type, p, from, to)
  local text = protobuf.bytes(type, p, from, to)
  if not values.is_utf8(p + from, to - from) then
    refuse(400, "a text of the message is not UTF-8")
  end
  return text
end

--- Field number to how its values lie: a packed list that is memory as it is, or one of varints.
local CONTENTS = {
  { kind = "varint", names = { BOOL = true } },
  { kind = "varint", names = { INT8 = true, INT16 = true, INT32 = true } },
  { kind = "varint", names = { INT64 = true } },
  { kind = "varint", names = { UINT8 = true, UINT16 = true, UINT32 = true } },
  { kind = "varint", names = { UINT64 = true } },
  { kind = "fixed", size = 4, type = protobuf.FIXED32, names = { FP32 = true } },
  { kind = "fixed", size = 8, type = protobuf.FIXED64, names = { FP64 = true } },
  { kind = "bytes", names = { BYTES = true } },
}

local function add_value(input, value)
  local request = input.request
  request.listed = request.listed + 1
  if request.listed > LISTED then
    refuse(400, "more than %d values in contents: send raw_input_contents", LISTED)
  end
  input.values[#input.values + 1] = value
end

local function contents_field(number, type, p, from, to, input)
  local contents = CONTENTS[number]
  if not contents then
    return
  elseif input.contents and input.contents ~= number then
    refuse(400, "input %s has contents of several types", shown(input.name or ""))
  end
  input.contents, input.kind, input.values = number, contents.kind, input.values or {}
  if contents.kind == "bytes" then
    add_value(input, protobuf.bytes(type, p, from, to))
  elseif contents.kind == "fixed" then
    if type ~= 2 and type ~= contents.type then
      protobuf.broken()
    end
    add_value(input, { from, to })
  elseif type == 2 then
    local value
    while from < to do
      value, from = varint(p, from, to)
      add_value(input, number == 1 and value ~= 0 or number > 1 and value)
    end
  elseif type == 0 then
    local value = varint(p, from, to)
    add_value(input, number == 1 and value ~= 0 or number > 1 and value)
  else
    protobuf.broken()
  end
end

local function add_size(shape, value)
  if value < 0 or value > http_request.LARGEST or #shape == http_request.DIMENSIONS then
    refuse(400, "a shape is a list of at most %d whole numbers from 0 to %d", http_request.DIMENSIONS, http_request.LARGEST)
  end
  shape[#shape + 1] = value
end

local function parameter_field(number, type, p, from, to, parameter)
  if number == 1 then
    parameter.name = text_of(type, p, from, to)
  elseif number == 2 then
    parameter.has = to > from
  end
end

local function parameter(type, p, from, to, what)
  if type ~= 2 then
    protobuf.broken()
  end
  local found = {}
  protobuf.fields(p, from, to, parameter_field, found)
  local name = found.name
  if found.has and (name == "shared_memory_region" or name == "classification" or name == "sequence_id") then
    refuse(400, 'the parameter "%s" of %s is not served here', name, what)
  end
end

local function input_field(number, type, p, from, to, input)
  if number == 1 then
    input.name = text_of(type, p, from, to)
  elseif number == 2 then
    input.datatype = text_of(type, p, from, to)
  elseif number == 3 then
    local value
    if type == 0 then
      add_size(input.shape, (varint(p, from, to)))
    elseif type ~= 2 then
      protobuf.broken()
    end
    while type == 2 and from < to do
      value, from = varint(p, from, to)
      add_size(input.shape, value)
    end
  elseif number == 4 then
    parameter(type, p, from, to, "an input")
  elseif number == 5 then
    if type ~= 2 then
      protobuf.broken()
    end
    protobuf.fields(p, from, to, contents_field, input)
  end
end

local function output_field(number, type, p, from, to, output)
  if number == 1 then
    output.name = text_of(type, p, from, to)
  elseif number == 2 then
    parameter(type, p, from, to, "an output")
  end
end

--- Adds to a list of the request, which must be a message's.
local function add(list, most, item, type)
  if type ~= 2 then
    protobuf.broken()
  elseif #list == most then
    refuse(400, "a request has at most %d inputs and asks for at most %d outputs", http_request.INPUTS, http_request.OUTPUTS)
  end
  list[#list + 1] = item
end

local function request_field(number, type, p, from, to, request)
  if number == 1 then
    request.model = text_of(type, p, from, to)
  elseif number == 2 then
    request.version = text_of(type, p, from, to)
  elseif number == 3 then
    request.id = text_of(type, p, from, to)
  elseif number == 4 then
    parameter(type, p, from, to, "the request")
  elseif number == 5 then
    local input = { shape = {}, request = request }
    add(request.inputs, http_request.INPUTS, input, type)
    protobuf.fields(p, from, to, input_field, input)
  elseif number == 6 then
    local output = {}
    request.outputs = request.outputs or {}
    add(request.outputs, http_request.OUTPUTS, output, type)
    protobuf.fields(p, from, to, output_field, output)
  elseif number == 7 then
    add(request.raw, http_request.INPUTS, { from = from, size = to - from }, type)
  end
end

--- Values of a list that are memory as it is: one part of the message as it lies, several put together.
local function together(input, p)
  if #input.values == 1 then
    input.from, input.size = input.values[1][1], input.values[1][2] - input.values[1][1]
    return
  end
  local parts = {}
  for index, part in ipairs(input.values) do
    parts[index] = ffi.string(p + part[1], part[2] - part[1])
  end
  input.body = table.concat(parts)
  input.p, input.from, input.size = ffi.cast("const uint8_t *", input.body), 0, #input.body
end

local function locate(input, raw, body, p)
  if not input.name or not input.datatype or #input.shape == 0 then
    refuse(400, "input %s has no %s", shown(input.name or ""), not input.name and "name" or not input.datatype and "datatype" or "shape")
  elseif (raw ~= nil) == (input.contents ~= nil) then
    refuse(400, "input %s must have its values either in contents or in raw_input_contents", shown(input.name))
  elseif raw then
    input.source, input.body, input.p, input.from, input.size = "raw", body, p, raw.from, raw.size
  elseif not CONTENTS[input.contents].names[input.datatype] then
    refuse(400, "input %s has the datatype %s, and contents of another", shown(input.name), shown(input.datatype))
  elseif input.kind == "fixed" then
    input.source, input.body, input.p = "raw", body, p
    together(input, p)
  else
    input.source = "list"
  end
end

--- The request in a gRPC frame.
function M.read(body)
  local p, from, to = protobuf.unframed(body)
  local request = { inputs = {}, raw = {}, listed = 0, model = "", version = "" }
  protobuf.fields(p, from, to, request_field, request)
  for _, output in ipairs(request.outputs or {}) do
    if not output.name then
      refuse(400, "an output that is asked for has no name")
    end
  end
  if #request.raw > 0 and #request.raw ~= #request.inputs then
    refuse(400, "there are %d raw_input_contents for %d inputs", #request.raw, #request.inputs)
  end
  for index, input in ipairs(request.inputs) do
    locate(input, request.raw[index], body, p)
  end
  return request
end

local function name_field(number, type, p, from, to, found)
  if number == 1 or number == 2 then
    found[number] = text_of(type, p, from, to)
  end
end

--- Name and version of a ModelReadyRequest, a ModelMetadataRequest, or the service of a HealthCheckRequest.
function M.read_name(body)
  local p, from, to = protobuf.unframed(body)
  local found = { "", "" }
  protobuf.fields(p, from, to, name_field, found)
  return found[1], found[2]
end

return M
