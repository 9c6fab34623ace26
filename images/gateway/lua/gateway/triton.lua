-- Triton's HTTP endpoint on loopback: requests as KServe v2's binary extension, of which every byte is ours.

local cjson = require("cjson")
local ffi = require("ffi")
local json = require("gateway.json")
local refusal = require("gateway.refusal")

local concat, ffi_string, find, format, match, sub = table.concat, ffi.string, string.find, string.format, string.match, string.sub
local refuse = refusal.refuse

local M = {}
local CONNECT_MS, IDLE_MS, IDLE = 2000, 60000, 64
local PIECE = 65536 -- large tensors are sent from where they lie, so that no second copy of them is in memory

--- `settings`: host, port, timeout (ms), text of the timeout.
function M.setup(settings)
  M.settings = settings
end

local function size_of(tensor)
  return tensor.text and #tensor.text or tensor.size
end

--- The request's JSON for Triton, the bytes that follow it, and how many they are.
local function described(tensors)
  local parts, data = {}, 0
  for index, tensor in ipairs(tensors) do
    local size = size_of(tensor)
    parts[index] = format(
      '{"name":%s,"shape":[%s],"datatype":"%s","parameters":{"binary_data_size":%d}}',
      tensor.quoted or json.quote(tensor.name), concat(tensor.shape, ","), tensor.dtype, size
    )
    data = data + size
  end
  return '{"inputs":[' .. concat(parts, ",") .. '],"parameters":{"binary_data_output":true}}', data
end

local function pieces(tensors, parts)
  local last = #parts
  for _, tensor in ipairs(tensors) do
    if tensor.text then
      parts[last + 1] = tensor.text
    elseif tensor.size <= PIECE then
      parts[last + 1] = ffi_string(tensor.pointer, tensor.size)
    else
      parts[last + 1] = tensor
    end
    last = last + 1
  end
  return parts
end

--- Sends strings, and large tensors piece by piece.
local function send(socket, parts)
  local whole = {}
  for _, part in ipairs(parts) do
    if type(part) ~= "table" then
      whole[#whole + 1] = part
    else
      local ok, err = socket:send(whole)
      for from = 0, part.size - 1, PIECE do
        if not ok then
          return nil, err
        end
        ok, err = socket:send(ffi_string(part.pointer + from, math.min(PIECE, part.size - from)))
      end
      whole = {}
    end
  end
  return #whole == 0 or socket:send(whole)
end

--- Head and body of an answer; nil and what happened where there is none.
local function receive(socket)
  local got, stop = "", nil
  repeat
    local more, err = socket:receiveany(65536)
    if not more then
      return nil, err, got == ""
    end
    got = got == "" and more or got .. more
    stop = find(got, "\r\n\r\n", 1, true)
  until stop
  local head, body = sub(got, 1, stop + 1), sub(got, stop + 4)
  local length = tonumber(match(head, "\r\n[Cc]ontent%-[Ll]ength: *(%d+)\r\n"))
  if not length then
    return nil, "no Content-Length"
  elseif #body < length then
    local rest, err = socket:receive(length - #body)
    if not rest then
      return nil, err
    end
    body = body == "" and rest or body .. rest
  end
  return head, body
end

--- One exchange. A kept-alive connection that Triton has closed meanwhile is tried again, on a new one: an inference changes nothing.
local function exchange(parts)
  local settings = M.settings
  for _ = 1, 2 do
    local socket = ngx.socket.tcp()
    socket:settimeouts(CONNECT_MS, settings.timeout, settings.timeout)
    if not socket:connect(settings.host, settings.port) then
      refuse(502, "the model server does not answer")
    end
    local reused = socket:getreusedtimes() > 0
    local head, body, nothing
    local ok, err = send(socket, parts)
    if ok then
      head, body, nothing = receive(socket)
      err = body
    end
    if head then
      socket:setkeepalive(IDLE_MS, IDLE)
      return head, body
    end
    socket:close()
    if err == "timeout" then
      refuse(504, "the model server did not answer within %s", settings.timeout_text)
    elseif not reused or (ok and not nothing) then
      break
    end
  end
  refuse(502, "the model server does not answer")
end

local function refuse_error(head, body)
  local ok, found = pcall(cjson.decode, body)
  local said = ok and type(found) == "table" and type(found.error) == "string" and found.error or "no reason given"
  refuse(500, "the model failed: %s", sub(said, 1, 500))
end

--- The answer to a request for `model` of these tensors: {json, body, from}; the outputs' bytes begin at `from` of the body.
function M.infer(model, tensors)
  local header, size = described(tensors)
  local head, body = exchange(pieces(tensors, {
    model.request_head, #header + size, "\r\nInference-Header-Content-Length: ", #header, "\r\n\r\n", header,
  }))
  if sub(head, 10, 12) ~= "200" then
    refuse_error(head, body)
  end
  local length = tonumber(match(head, "\r\n[Ii]nference%-[Hh]eader%-[Cc]ontent%-[Ll]ength: *(%d+)\r\n"))
  return { json = cjson.decode(length and sub(body, 1, length) or body), body = body, from = length or #body }
end

--- Whether Triton answers a health endpoint with 200.
function M.is_ready(path)
  local head = exchange({ "GET ", path, " HTTP/1.1\r\nHost: triton\r\n\r\n" })
  return sub(head, 10, 12) == "200"
end

return M
