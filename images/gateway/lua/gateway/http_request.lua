-- An inference request over HTTP: KServe v2's JSON, with or without its binary extension.
--
-- A request, of any protocol, is {id, inputs, outputs, binary}. An input is {name, datatype, shape, source, ...} with the source
--   "json"  text (kept alive), p (its bytes), at (index of the list `data`)
--   "raw"   body (kept alive), p, from, size: values as they lie in memory, BYTES each after their length
--   "list"  values: numbers, booleans or strings
-- `outputs` is nil, or a list of {name, binary}; `binary` says how outputs go that say nothing themselves.

local ffi = require("ffi")
local json = require("gateway.json")
local refusal = require("gateway.refusal")
local values = require("gateway.values")

local refuse, shown = refusal.refuse, refusal.shown
local band = require("bit").band
local floor = math.floor

local M = {}
M.DIMENSIONS, M.LARGEST = 8, 2147483647
M.INPUTS, M.OUTPUTS = 8192, 64 -- of inputs, one each for the columns of the widest table

local function text_at(p, i, what)
  if p[i] ~= 34 then
    refuse(400, "%s must be text", what)
  end
  return json.string(p, i)
end

local function add_dimension(p, i, shape)
  local value
  value, i = json.number(p, i)
  if value ~= floor(value) or value < 0 or value > M.LARGEST or #shape == M.DIMENSIONS then
    refuse(400, "a shape is a list of at most %d whole numbers from 0 to %d", M.DIMENSIONS, M.LARGEST)
  end
  shape[#shape + 1] = value
  return i
end

local function parameters_at(p, i, what)
  local found
  if p[i] ~= 123 then
    refuse(400, "parameters of %s must be an object", what)
  end
  found, i = json.value(p, i, 1)
  for _, name in ipairs({ "shared_memory_region", "classification", "sequence_id" }) do
    if found[name] ~= nil and found[name] ~= 0 and found[name] ~= "" then
      refuse(400, 'the parameter "%s" of %s is not served here', name, what)
    end
  end
  return found, i
end

local function input_member(name, p, i, input)
  if name == "name" then
    input.name, i = text_at(p, i, "the name of an input")
  elseif name == "datatype" then
    input.datatype, i = text_at(p, i, "the datatype of an input")
  elseif name == "shape" then
    input.shape = {}
    i = json.array(p, i, add_dimension, input.shape)
  elseif name == "data" then
    input.at = i
    i = json.skip_list(p, i)
  elseif name == "parameters" then
    local found
    found, i = parameters_at(p, i, "an input")
    input.size = found.binary_data_size
  else
    local _
    _, i = json.value(p, i, 1)
  end
  return i
end

local function add_input(p, i, request)
  local input = {}
  i = json.object(p, i, input_member, input)
  local inputs = request.inputs
  if not input.name then
    refuse(400, "input %d has no name", #inputs + 1)
  elseif not input.datatype or not input.shape or #input.shape == 0 then
    refuse(400, "input %s has no %s", shown(input.name), input.datatype and "shape" or "datatype")
  elseif (input.at == nil) == (input.size == nil) then
    refuse(400, "input %s must have either data or the parameter binary_data_size", shown(input.name))
  elseif input.size and (type(input.size) ~= "number" or input.size ~= floor(input.size) or input.size < 0) then
    refuse(400, "the binary_data_size of input %s must be a number of bytes", shown(input.name))
  elseif #inputs == M.INPUTS then
    refuse(400, "a request has at most %d inputs", M.INPUTS)
  end
  inputs[#inputs + 1] = input
  return i
end

local function output_member(name, p, i, output)
  if name == "name" then
    output.name, i = text_at(p, i, "the name of an output")
  elseif name == "parameters" then
    local found
    found, i = parameters_at(p, i, "an output")
    output.binary = found.binary_data
  else
    local _
    _, i = json.value(p, i, 1)
  end
  return i
end

local function add_output(p, i, request)
  local output = {}
  i = json.object(p, i, output_member, output)
  if not output.name then
    refuse(400, "an output that is asked for has no name")
  end
  if #request.outputs == M.OUTPUTS then
    refuse(400, "a request asks for at most %d outputs", M.OUTPUTS)
  end
  request.outputs[#request.outputs + 1] = output
  return i
end

local function request_member(name, p, i, request)
  if name == "inputs" then
    request.inputs = {}
    i = json.array(p, i, add_input, request)
  elseif name == "outputs" then
    request.outputs = {}
    i = json.array(p, i, add_output, request)
  elseif name == "id" then
    request.id, i = text_at(p, i, "the id")
  elseif name == "parameters" then
    local found
    found, i = parameters_at(p, i, "the request")
    request.binary = found.binary_data_output
  else
    local _
    _, i = json.value(p, i, 1)
  end
  return i
end

--- Whether all bytes are ASCII: four at once, as nearly all of all JSON is.
local function is_ascii(bytes, length)
  local words = ffi.cast("const int32_t *", bytes)
  for index = 0, floor(length / 4) - 1 do
    if band(words[index], 0x80808080) ~= 0 then
      return false
    end
  end
  for index = length - length % 4, length - 1 do
    if bytes[index] >= 0x80 then
      return false
    end
  end
  return true
end

--- Gives the inputs their values: a part of `body` after its JSON, or a list in the JSON.
local function locate(request, text, p, body, from)
  local bytes = ffi.cast("const uint8_t *", body)
  for _, input in ipairs(request.inputs) do
    if input.size then
      input.source, input.body, input.p, input.from = "raw", body, bytes, from
      from = from + input.size
    else
      input.source, input.text, input.p = "json", text, p
    end
  end
  if from ~= #body then
    refuse(400, "the binary data of the inputs should end at byte %.0f of the body, which has %d bytes", from, #body)
  end
end

--- The request in `body`, whose JSON is `header` (the text of Inference-Header-Content-Length, nil without one) bytes long.
function M.read(body, header)
  local length = #body
  if header then
    length = header:find("^%d%d?%d?%d?%d?%d?%d?%d?%d?%d?$") and tonumber(header)
    if not length or length > #body then
      refuse(400, "Inference-Header-Content-Length must be a number of bytes, and not more than the body has (%d)", #body)
    end
  end
  local text = length == #body and body or body:sub(1, length)
  local p = ffi.cast("const uint8_t *", text)
  if not is_ascii(p, length) and not values.is_utf8(p, length) then
    refuse(400, "the request is not valid JSON: it is not UTF-8")
  end
  local request = { binary = false }
  json.begin(p, length)
  local i = json.object(p, json.space(p, 0), request_member, request)
  i = json.space(p, i)
  if i ~= length then
    json.bad(i, "more after its end")
  elseif not request.inputs then
    refuse(400, 'the request has no "inputs"')
  end
  locate(request, text, p, body, length)
  return request
end

return M
