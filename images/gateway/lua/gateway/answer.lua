-- Triton's answer, checked, and as each protocol writes it.

local ffi = require("ffi")
local json = require("gateway.json")
local model_of = require("gateway.model")
local protobuf = require("gateway.protobuf")
local refusal = require("gateway.refusal")
local values = require("gateway.values")

local concat, floor, format, sub = table.concat, math.floor, string.format, string.sub
local refuse, single_text, double_text = refusal.refuse, values.single_text, values.double_text
local POINTERS = {}
for name, number in pairs(model_of.NUMBERS) do
  POINTERS[name] = ffi.typeof("const " .. number.ctype .. " *")
end

local M = {}

local function count_of(shape)
  local count = 1
  for _, size in ipairs(shape) do
    count = count * size
  end
  return count
end

--- A number that is none is no answer: which row it is of.
local function check_finite(output)
  local pointer, width = output.pointer, output.count / output.shape[1]
  for e = 0, output.count - 1 do
    local value = pointer[e]
    if value - value ~= 0 then
      refuse(
        422, "row %d: the model has no answer for it (%s is %s); a value of this row is missing, or out of range",
        floor(e / width) + 1, output.name, value ~= value and "not a number" or "infinite"
      )
    end
  end
end

--- Outputs that were asked for: {name, datatype, shape, count, from, size, pointer, binary}, where they lie in `answer.body`.
function M.outputs(answer, request)
  local wanted, found, from = nil, {}, answer.from
  if request.outputs and #request.outputs > 0 then
    wanted = {}
    for _, output in ipairs(request.outputs) do
      wanted[output.name] = output
    end
  end
  for _, entry in ipairs(answer.json.outputs) do
    local size = entry.parameters.binary_data_size
    local output = {
      name = entry.name, datatype = entry.datatype, shape = entry.shape, from = from, size = size, count = count_of(entry.shape),
    }
    from = from + size
    if entry.datatype ~= "BYTES" then
      output.pointer = ffi.cast(POINTERS[entry.datatype], ffi.cast("const char *", answer.body) + output.from)
    end
    if entry.datatype == "FP32" or entry.datatype == "FP64" then
      check_finite(output)
    end
    if not wanted or wanted[entry.name] then
      local binary = wanted and wanted[entry.name].binary
      if binary == nil then
        binary = request.binary
      end
      output.binary = binary
      found[#found + 1] = output
    end
  end
  return found
end

--- Calls `on_text(text)` for each text of an output of BYTES.
local function texts(answer, output, on_text)
  local i, body = output.from + 1, answer.body
  for _ = 1, output.count do
    local a, b, c, d = body:byte(i, i + 3)
    local length = a + b * 256 + c * 65536 + d * 16777216
    on_text(sub(body, i + 4, i + 3 + length))
    i = i + 4 + length
  end
end

--- The list of an output's values.
local function listed(answer, output)
  local parts, pointer = {}, output.pointer
  if output.datatype == "BYTES" then
    texts(answer, output, function(text) parts[#parts + 1] = json.quote(text) end)
  elseif output.datatype == "FP32" then
    for e = 0, output.count - 1 do
      parts[e + 1] = single_text(pointer[e])
    end
  elseif output.datatype == "FP64" then
    for e = 0, output.count - 1 do
      parts[e + 1] = double_text(pointer[e])
    end
  elseif output.datatype == "BOOL" then
    for e = 0, output.count - 1 do
      parts[e + 1] = pointer[e] ~= 0 and "true" or "false"
    end
  else
    for e = 0, output.count - 1 do
      parts[e + 1] = tostring(pointer[e]):gsub("U?LL$", "")
    end
  end
  return concat(parts, ",")
end

--- The body for HTTP, in strings; and the length of its JSON where outputs follow it in binary.
function M.to_http(model, request, answer, outputs)
  local entries, data = {}, {}
  for index, output in ipairs(outputs) do
    local head = format('{"name":%s,"datatype":"%s","shape":[%s],', json.quote(output.name), output.datatype, concat(output.shape, ","))
    if output.binary then
      entries[index] = format('%s"parameters":{"binary_data_size":%d}}', head, output.size)
      data[#data + 1] = sub(answer.body, output.from + 1, output.from + output.size)
    else
      entries[index] = head .. '"data":[' .. listed(answer, output) .. "]}"
    end
  end
  local id = request.id and request.id ~= "" and '"id":' .. json.quote(request.id) .. "," or ""
  local text = format("{%s%s%s]}", id, model.answer_head, concat(entries, ","))
  table.insert(data, 1, text)
  return data, #data > 1 and #text or nil
end

--- The message for gRPC, in strings.
function M.to_grpc(model, request, answer, outputs)
  local field = protobuf.field
  local parts = { field(1, model.name), field(2, "1"), request.id and request.id ~= "" and field(3, request.id) or "" }
  for _, output in ipairs(outputs) do
    parts[#parts + 1] = field(5, field(1, output.name) .. field(2, output.datatype) .. protobuf.shape_field(3, output.shape))
  end
  for _, output in ipairs(outputs) do
    parts[#parts + 1] = protobuf.field_head(6, output.size)
    parts[#parts + 1] = sub(answer.body, output.from + 1, output.from + output.size)
  end
  return parts
end

return M
