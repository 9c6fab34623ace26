-- A request's inputs, checked against the model's signature, as the tensors of its graph.

local ffi = require("ffi")
local json = require("gateway.json")
local model_of = require("gateway.model")
local refusal = require("gateway.refusal")
local values = require("gateway.values")

local refuse, shown = refusal.refuse, refusal.shown
local number_of, nfc = values.number_of, values.nfc
local byte, char, concat, floor = string.byte, string.char, table.concat, math.floor
local NAN, HUGE = 0 / 0, math.huge
local NUMBERS = model_of.NUMBERS

local M = {}

-- --- what an input is ------------------------------------------------------------------------------------------------------

local function names(entries)
  local found = {}
  for index, entry in ipairs(entries) do
    if index > 12 then
      found[index] = ("and %d more"):format(#entries - 12)
      break
    end
    found[index] = shown(entry.name)
  end
  return concat(found, ", ")
end

local function shape_text(shape)
  return "[" .. concat(shape, ", ") .. "]"
end

--- The column or tensor that an input's name means. A column may have a tensor's name; its shape then tells which one is meant.
local function place_of(model, input)
  local name = nfc(input.name) or input.name
  local column, packed = model.columns[name], model.packed[name]
  if column and packed and column.tensor.width ~= 1 and input.shape[2] and input.shape[2] ~= 1 then
    column = nil
  end
  local place = column or packed
  if not place then
    refuse(400, "the model has no input %s; it takes %s", shown(input.name), names(model.inputs))
  end
  return place
end

--- Values of the input in a row, after its shape was found to be that of the place.
local function row_width(place, input)
  local shape, tensor = input.shape, place.tensor
  if place.width then -- a column: [rows, 1], or [rows]
    if #shape > 2 or (shape[2] or 1) ~= 1 then
      refuse(400, "input %s has the shape %s; a column has [rows, 1]", shown(input.name), shape_text(shape))
    end
    return 1
  end
  local fits, width = #shape == #tensor.shape, 1
  for axis = 2, #shape do
    fits = fits and (tensor.shape[axis] < 0 or tensor.shape[axis] == shape[axis])
    width = width * shape[axis]
  end
  if not fits or (tensor.shape[1] >= 0 and tensor.shape[1] ~= shape[1]) then
    refuse(400, "input %s has the shape %s; the model takes %s", shown(input.name), shape_text(shape), shape_text(tensor.shape))
  end
  return width
end

--- Most values that the data can hold, after `listed` ones of the same JSON: shapes are promises, and nothing is allocated for
--- one that the data cannot keep.
local function most_values(input, listed)
  if input.source == "list" then
    return #input.values
  elseif input.source == "raw" then
    return input.datatype == "BYTES" and input.size / 4 or input.size / NUMBERS[input.datatype].size
  end
  return #input.text / 2 - listed
end

local function check_rows(model, input, rows)
  if input.shape[1] ~= rows then
    refuse(400, "the inputs have different numbers of rows: %.0f and %.0f", rows, input.shape[1])
  elseif rows < 1 then
    refuse(400, "the request has no rows")
  elseif model.most > 0 and rows > model.most then
    refuse(400, "the request has %.0f rows; this model takes at most %d at once", rows, model.most)
  end
end

--- Resolves each input; returns the rows, and for each tensor the inputs that fill it.
local function resolve(model, request)
  local rows, filled, listed = request.inputs[1] and request.inputs[1].shape[1], {}, 0
  for index, tensor in ipairs(model.tensors) do
    filled[index] = { tensor = tensor, from = {}, inputs = {} }
  end
  for _, input in ipairs(request.inputs) do
    if input.datatype ~= "BYTES" and not NUMBERS[input.datatype] then
      refuse(400, "input %s has the datatype %s, which does not exist", shown(input.name), shown(input.datatype))
    end
    local place = place_of(model, input)
    check_rows(model, input, rows)
    local width = row_width(place, input)
    input.count = rows * width
    if input.count > most_values(input, listed) then
      refuse(400, "input %s has the shape %s, and fewer values than that", shown(input.name), shape_text(input.shape))
    end
    listed = input.source == "json" and listed + input.count or listed
    local target = filled[place.tensor.index]
    for offset = place.offset, place.width and place.offset or place.offset + math.max(#place.tensor.columns, 1) - 1 do
      if target.from[offset] then
        refuse(400, "input %s is there twice, by itself or in a packed tensor", shown(input.name))
      end
      target.from[offset] = input
    end
    input.place, target.width = place, place.width and place.tensor.width or width
    target.inputs[#target.inputs + 1] = input
  end
  return rows, filled
end

local function check_complete(model, filled)
  for _, target in ipairs(filled) do
    for offset = 0, math.max(#target.tensor.columns, 1) - 1 do
      if not target.from[offset] then
        local name = target.tensor.columns[offset + 1] and target.tensor.columns[offset + 1].name or target.tensor.name
        refuse(400, "input %s is missing; the model takes %s", shown(name), names(model.inputs))
      end
    end
  end
end

-- --- reading values --------------------------------------------------------------------------------------------------------

--- Where the value `e` of an input goes, for a message: its row, from 1, and its column.
local function where(into, e)
  local row = floor(e / into.width)
  local column = into.columns[into.offset + e - row * into.width + 1]
  return ("row %.0f: %s"):format(row + 1, column and "column " .. shown(column.name) or "input " .. shown(into.name))
end

local function not_a_number(into, e, text)
  refuse(422, "%s is %s, which is not a number", where(into, e), shown(text))
end

local function store_text_number(into, e, text)
  local value = number_of(text)
  if not value then
    not_a_number(into, e, text)
  end
  into.buffer[into.offset + e * into.step] = value
end

local function check_whole(into, e, value) -- of a tensor of whole numbers, which only artifacts of others have
  local number = into.number
  if not number.real and not (value == floor(value) and value >= number.low and value <= number.high) then
    refuse(422, "%s is %s; it must be a whole number from %.0f to %.0f", where(into, e), values.double_text(value), number.low, number.high)
  end
  return value
end

local function number_item(p, i, e, into)
  local c, value = p[i], nil
  if c == 45 or (c >= 48 and c <= 57) then
    value, i = json.number(p, i)
  elseif c == 34 then
    value, i = json.string(p, i)
    store_text_number(into, e, value)
    return i
  else
    value, i = json.word(p, i)
    value = value == nil and NAN or value and 1 or 0
  end
  into.buffer[into.offset + e * into.step] = into.number.real and value or check_whole(into, e, value)
  return i
end

--- The text of a number as JSON writes it: a whole number's own digits, however many; of others that of the float64.
local function number_text(p, from, to, value)
  for at = from, to - 1 do
    if p[at] == 46 or p[at] == 101 or p[at] == 69 then
      return values.double_text(value)
    end
  end
  return value == 0 and "0" or ffi.string(p + from, to - from)
end

local function store_text(into, e, text)
  text = nfc(text)
  if not text then
    refuse(422, "%s is not UTF-8 text", where(into, e))
  end
  into.buffer[into.offset + e * into.step + 1] = text
end

local function text_item(p, i, e, into)
  local c, from, value = p[i], i, nil
  if c == 34 then
    value, i = json.string(p, i)
    store_text(into, e, value)
    return i
  elseif c == 45 or (c >= 48 and c <= 57) then
    value, i = json.number(p, i)
    value = number_text(p, from, i, value)
    if value == "inf" or value == "-inf" then
      refuse(422, "%s is beyond the largest number; if it is a text, write it in quotes", where(into, e))
    end
  else
    value, i = json.word(p, i)
    value = value == nil and "" or tostring(value)
  end
  into.buffer[into.offset + e * into.step + 1] = value
  return i
end

local function uneven(input)
  refuse(400, "input %s has the shape %s, and its data another number of values", shown(input.name), shape_text(input.shape))
end

--- A level of lists that are nested as the shape says, down to its last axis; `e` values are read before it.
local function nested(p, i, axis, e, input, item, into)
  local shape = input.shape
  if p[i] ~= 91 then
    uneven(input)
  end
  for index = 1, shape[axis] do
    i = json.space(p, i + 1)
    if axis < #shape then
      i, e = nested(p, i, axis + 1, e, input, item, into)
    else
      if p[i] == 93 then
        uneven(input)
      end
      i, e = item(p, i, e, into), e + 1
    end
    i = json.space(p, i)
    if p[i] ~= (index == shape[axis] and 93 or 44) then
      uneven(input)
    end
  end
  return i + 1, e
end

local function read_json(input, item, into)
  local p, i, count, e = input.p, json.space(input.p, input.at + 1), input.count, 0
  if p[i] == 91 then
    nested(p, input.at, 1, 0, input, item, into)
    return
  end
  while true do
    if e == count or p[i] == 93 then
      uneven(input)
    end
    i = json.space(p, item(p, i, e, into))
    e = e + 1
    local c = p[i]
    if c == 93 then
      break
    elseif c ~= 44 then
      json.bad(i, "neither a comma nor the list's end")
    end
    i = json.space(p, i + 1)
  end
  if e ~= count then
    uneven(input)
  end
end

--- Calls `store(into, e, text)` for each of the texts, which lie after their lengths.
local function read_raw_texts(input, store, into)
  local p, i, stop = input.p, input.from, input.from + input.size
  for e = 0, input.count - 1 do
    local length = i + 4 <= stop and p[i] + p[i + 1] * 256 + p[i + 2] * 65536 + p[i + 3] * 16777216
    if not length or i + 4 + length > stop then
      refuse(400, "input %s: its BYTES are not each a length of four bytes and as many bytes", shown(input.name))
    end
    store(into, e, ffi.string(p + i + 4, length))
    i = i + 4 + length
  end
  if i ~= stop then
    uneven(input)
  end
end

local POINTERS = {}
for name, number in pairs(NUMBERS) do
  POINTERS[name] = ffi.typeof("const " .. number.ctype .. " *")
end

local function raw_numbers(input) -- a pointer to the values, of which there are as many as the shape says
  local number = NUMBERS[input.datatype]
  if number.opaque and input.place.tensor.dtype ~= input.datatype then
    refuse(400, "input %s has the datatype %s; send FP32", shown(input.name), input.datatype)
  elseif input.size ~= input.count * number.size then
    uneven(input)
  end
  return ffi.cast(POINTERS[input.datatype], input.p + input.from)
end

local function read_raw_numbers(input, into)
  local from, offset, step, buffer = raw_numbers(input), into.offset, into.step, into.buffer
  if input.datatype == into.dtype and step == 1 then
    ffi.copy(buffer + offset, from, input.size)
  elseif into.number.real or input.datatype == into.dtype then
    for e = 0, input.count - 1 do
      buffer[offset + e * step] = tonumber(from[e])
    end
  else
    for e = 0, input.count - 1 do
      buffer[offset + e * step] = check_whole(into, e, tonumber(from[e]))
    end
  end
end

--- The text of a value of a tensor, for a column of text.
local function text_of(value, datatype)
  if datatype == "FP32" then
    return values.single_text(value)
  elseif datatype == "FP64" then
    return values.double_text(value)
  elseif datatype == "BOOL" then
    return (value == true or value == 1) and "true" or "false"
  end
  return (tostring(value):gsub("U?LL$", "")) -- of a number, or of LuaJIT's 64 bit integers
end

local function read_list(input, into)
  local text = into.tensor.text
  for e = 0, input.count - 1 do
    local value = input.values[e + 1]
    if text then
      store_text(into, e, type(value) == "string" and value or text_of(value, input.datatype))
    elseif type(value) == "string" then
      store_text_number(into, e, value)
    else
      value = value == true and 1 or value or 0
      into.buffer[into.offset + e * into.step] = into.number.real and value or check_whole(into, e, value)
    end
  end
  if input.count ~= #input.values then
    uneven(input)
  end
end

local function read(input, into)
  local text = into.tensor.text
  if input.source == "json" then
    read_json(input, text and text_item or number_item, into)
  elseif input.source == "list" then
    read_list(input, into)
  elseif input.datatype == "BYTES" then
    read_raw_texts(input, text and store_text or store_text_number, into)
  elseif text then
    local from = raw_numbers(input)
    for e = 0, input.count - 1 do
      store_text(into, e, text_of(from[e], input.datatype))
    end
  else
    read_raw_numbers(input, into)
  end
end

-- --- what no model answers ---------------------------------------------------------------------------------------------------

local function refuse_number(tensor, row, k, value)
  local column = tensor.columns[k + 1]
  local what = ("row %.0f: %s"):format(row + 1, column and "column " .. shown(column.name) or "input " .. shown(tensor.name))
  if value ~= value then
    refuse(422, "%s has no value, and nothing in this model stands in for one", what)
  elseif value == HUGE or value == -HUGE then
    refuse(422, "%s is infinite, or beyond the largest float32 (3.4e38)", what)
  end
  refuse(422, "%s is %s; it must be greater than %s", what, values.single_text(value), values.single_text(column.above))
end

local function check_numbers(tensor, buffer, rows, width)
  local columns = tensor.columns
  if #columns == 0 then
    for e = 0, rows * width - 1 do
      local value = buffer[e]
      if value - value ~= 0 then -- NaN, or infinite
        refuse_number(tensor, floor(e / width), 0, value)
      end
    end
    return
  end
  for row = 0, rows - 1 do
    for k = 0, width - 1 do
      local value, column = buffer[row * width + k], columns[k + 1]
      if value - value ~= 0 then
        if value == value or not column.missing then
          refuse_number(tensor, row, k, value)
        end
      elseif column.above and value <= column.above then
        refuse_number(tensor, row, k, value)
      end
    end
  end
end

--- Writes numbers and booleans as training did, where their columns had nothing else.
local function normalise_texts(tensor, texts, rows, width)
  for k, column in ipairs(tensor.columns) do
    for e = k, column.texts and rows * width or 0, width do
      texts[e] = values.normal_text(texts[e], column.texts)
    end
  end
end

local function check_texts(tensor, texts, rows, width)
  for k = 0, #tensor.columns - 1 do
    for row = 0, tensor.columns[k + 1].missing and -1 or rows - 1 do
      if texts[row * width + k + 1] == "" then
        refuse_number(tensor, row, k, NAN)
      end
    end
  end
end

-- --- the graph's tensors ---------------------------------------------------------------------------------------------------

local function length_of(text) -- as BYTES have it before them
  local length = #text
  return char(length % 256, floor(length / 256) % 256, floor(length / 65536) % 256, floor(length / 16777216))
end

local function text_bytes(texts, count)
  local parts = {}
  for e = 1, count do
    local text = texts[e]
    parts[2 * e - 1], parts[2 * e] = length_of(text), text
  end
  return concat(parts)
end

--- The tensor's bytes: `{text}`, or `{pointer, size, keep}`.
local function tensor_data(target, rows)
  local tensor, width = target.tensor, target.width
  local count, number, first = rows * width, tensor.number, target.inputs[1]
  local buffer, keep
  if first.source == "raw" and not first.place.width and first.datatype == tensor.dtype and not tensor.text then
    buffer, keep = raw_numbers(first), first.body -- packed, as the graph takes it: it stays where it is
  else
    buffer = tensor.text and {} or ffi.new(number.ctype .. "[?]", count)
    for _, input in ipairs(target.inputs) do
      local column = input.place.width
      read(input, {
        tensor = tensor, name = tensor.name, dtype = tensor.dtype, number = number, columns = tensor.columns, buffer = buffer,
        offset = input.place.offset, step = column and width or 1, width = column or width,
      })
    end
  end
  if tensor.text then
    normalise_texts(tensor, buffer, rows, width)
    check_texts(tensor, buffer, rows, width)
    return { text = text_bytes(buffer, count) }
  elseif number.real then
    check_numbers(tensor, buffer, rows, width)
  end
  return { pointer = ffi.cast("const char *", buffer), size = count * number.size, keep = keep or buffer }
end

--- Rows of the request, and for each tensor of the graph its shape and its bytes.
function M.pack(model, request)
  local rows, filled = resolve(model, request)
  check_complete(model, filled)
  for _, output in ipairs(request.outputs or {}) do
    if not model.output_names[output.name] then
      refuse(400, "the model has no output %s; it gives %s", shown(output.name), names(model.outputs))
    end
  end
  local tensors = {}
  for index, target in ipairs(filled) do
    local data = tensor_data(target, rows)
    data.name, data.dtype = target.tensor.name, target.tensor.dtype
    local first = target.inputs[1]
    data.shape = first.place.width and { rows, target.width } or first.shape
    tensors[index] = data
  end
  return rows, tensors
end

return M
