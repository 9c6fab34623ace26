-- The model that this pod serves, from the files that the init step left: signature.json, whose bytes it verified, and serving.json.
-- Made once, when nginx starts.

local cjson = require("cjson")
local json = require("gateway.json")

local concat, format = table.concat, string.format

local M = {}

--- How numbers lie in memory, for each data type that has any.
M.NUMBERS = {
  BOOL = { ctype = "uint8_t", size = 1, low = 0, high = 1 },
  UINT8 = { ctype = "uint8_t", size = 1, low = 0, high = 255 },
  UINT16 = { ctype = "uint16_t", size = 2, low = 0, high = 65535 },
  UINT32 = { ctype = "uint32_t", size = 4, low = 0, high = 4294967295 },
  UINT64 = { ctype = "uint64_t", size = 8, low = 0, high = 9007199254740992 },
  INT8 = { ctype = "int8_t", size = 1, low = -128, high = 127 },
  INT16 = { ctype = "int16_t", size = 2, low = -32768, high = 32767 },
  INT32 = { ctype = "int32_t", size = 4, low = -2147483648, high = 2147483647 },
  INT64 = { ctype = "int64_t", size = 8, low = -9007199254740992, high = 9007199254740992 },
  FP32 = { ctype = "float", size = 4, real = true },
  FP64 = { ctype = "double", size = 8, real = true },
  FP16 = { ctype = "uint16_t", size = 2, opaque = true },
}

local function read_json(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("*a")
  file:close()
  return cjson.decode(text)
end

local function given(value)
  return value ~= cjson.null and value or nil
end

--- Values in a row of a tensor: nil where an axis of a row is free.
local function width_of(shape)
  local width = 1
  for axis = 2, #shape do
    if shape[axis] < 0 then
      return nil
    end
    width = width * shape[axis]
  end
  return width
end

local function tensors_of(signature)
  local tensors = {}
  for index, entry in ipairs(signature.inputs) do
    local shape = entry.shape
    local column = #shape == 2 and shape[2] == 1
    tensors[index] = {
      index = index, name = entry.name, dtype = entry.dtype, shape = shape, width = width_of(shape),
      text = entry.dtype == "BYTES", number = M.NUMBERS[entry.dtype],
      -- Of version 1, a tensor with a value per row is a column, of which we do not know whether something fills it.
      columns = not given(signature.columns) and column and { { name = entry.name, missing = true } } or {},
    }
  end
  return tensors
end

--- Where a name's values go: the tensor, and from which value of a row on. `width` is nil for whole rows.
local function places_of(signature, tensors)
  local columns, packed = {}, {}
  for _, tensor in ipairs(tensors) do
    packed[tensor.name] = { name = tensor.name, tensor = tensor, offset = 0 }
    if #tensor.columns == 1 then
      columns[tensor.name] = { name = tensor.name, tensor = tensor, offset = 0, width = 1 }
    end
  end
  for _, entry in ipairs(given(signature.columns) or {}) do
    local text = entry.dtype == "BYTES"
    for _, tensor in ipairs(tensors) do
      if tensor.text == text then
        columns[entry.name] = { name = entry.name, tensor = tensor, offset = #tensor.columns, width = 1 }
        tensor.columns[#tensor.columns + 1] = {
          name = entry.name, missing = entry.missing, above = given(entry.above), texts = given(entry.texts),
        }
      end
    end
  end
  return columns, packed
end

local function listed(entries)
  local parts = {}
  for index, entry in ipairs(entries) do
    parts[index] = format('{"name":%s,"datatype":"%s","shape":[%s]}', json.quote(entry.name), entry.dtype, concat(entry.shape, ","))
  end
  return "[" .. concat(parts, ",") .. "]"
end

--- What people send: the columns of a table; else the graph's tensors.
local function asked(signature)
  if not given(signature.columns) then
    return signature.inputs
  end
  local entries = {}
  for index, column in ipairs(signature.columns) do
    entries[index] = { name = column.name, dtype = column.dtype, shape = { -1, 1 } }
  end
  return entries
end

--- Outputs as clients see them: Triton shows `[N]` as `[N, 1]` where it batches.
local function outputs_of(signature, batches)
  local entries = {}
  for index, entry in ipairs(signature.outputs) do
    local shape = batches and #entry.shape == 1 and { entry.shape[1], 1 } or entry.shape
    entries[index] = { name = entry.name, dtype = entry.dtype, shape = shape }
  end
  return entries
end

--- The model `name` in the repository `folder`.
function M.load(folder, name)
  local signature = read_json(format("%s/%s/signature.json", folder, name))
  local most = read_json(format("%s/%s/serving.json", folder, name)).maxBatchSize
  return M.make(name, signature, most)
end

--- The model of a signature, which takes `most` rows at once; 0: no bound but the request's size.
function M.make(name, signature, most)
  local tensors = tensors_of(signature)
  local columns, packed = places_of(signature, tensors)
  local model = {
    name = name, most = most, tensors = tensors, columns = columns, packed = packed,
    inputs = asked(signature), outputs = outputs_of(signature, most > 0), graph = signature.inputs, output_names = {},
  }
  for _, output in ipairs(model.outputs) do
    model.output_names[output.name] = true
  end
  model.metadata = format(
    '{"name":%s,"versions":["1"],"platform":"onnxruntime_onnx","inputs":%s,"outputs":%s,"packed":%s,"maxBatchSize":%d}',
    json.quote(name), listed(model.inputs), listed(model.outputs), listed(signature.inputs), most
  )
  model.packed_json = listed(signature.inputs)
  return model
end

return M
