-- What nginx calls: reads a request, packs it, asks Triton, answers.

local answer_of = require("gateway.answer")
local grpc_request = require("gateway.grpc_request")
local http_request = require("gateway.http_request")
local json = require("gateway.json")
local model_of = require("gateway.model")
local packer = require("gateway.pack")
local protobuf = require("gateway.protobuf")
local refusal = require("gateway.refusal")
local triton = require("gateway.triton")

local concat, format, match = table.concat, string.format, string.match
local refuse, shown = refusal.refuse, refusal.shown

local M = {}
local LARGE = 102400 -- bytes of a body that has to wait for its turn: so many are in memory at once as the pod has room for
local GRPC_STATUS = { [400] = 3, [404] = 5, [405] = 12, [413] = 8, [415] = 12, [422] = 3, [500] = 13, [502] = 14, [503] = 14, [504] = 4 }

--- Run once, before nginx's workers start. `settings`: models, model, triton ("host:port"), timeout ("60s"), turns.
function M.start(settings)
  local model = model_of.load(settings.models, settings.model)
  model.answer_head = format('"model_name":%s,"model_version":"1","outputs":[', json.quote(model.name))
  model.request_head = format(
    "POST /v2/models/%s/infer HTTP/1.1\r\nHost: triton\r\nContent-Type: application/octet-stream\r\nContent-Length: ", model.name
  )
  local host, port = match(settings.triton, "^(.*):(%d+)$")
  local number, unit = match(settings.timeout, "^(%d+)([smh]?)$")
  local timeout = tonumber(number) * ({ s = 1, m = 60, h = 3600, [""] = 1 })[unit] * 1000
  triton.setup({ host = host, port = tonumber(port), timeout = timeout, timeout_text = settings.timeout })
  M.model, M.settings, M.timeout = model, settings, timeout
end

-- --- bodies ----------------------------------------------------------------------------------------------------------------

local turns

--- The body, after its turn has come where it is large; `release` must be called when nothing of it is needed any more.
local function read_body()
  if ngx.req.http_version() < 2 then -- else nginx has read it
    ngx.req.read_body()
  end
  local body = ngx.req.get_body_data()
  local path = not body and ngx.req.get_body_file()
  if not path and #(body or "") < LARGE then
    return body or "", nil
  end
  turns = turns or require("ngx.semaphore").new(M.settings.turns)
  if not turns:wait(M.timeout / 1000) then
    refuse(503, "too many large requests at once: this pod reads %d; try again", M.settings.turns)
  end
  if path then
    local file = io.open(path, "rb")
    body = file and file:read("*a")
    if file then
      file:close()
    end
  end
  return body or "", function()
    collectgarbage()
    turns:post(1)
  end
end

--- Runs `act(body)` and gives the turn of a large body back, whatever happens.
local function with_body(act)
  local body, release = read_body()
  if not release then
    return act(body)
  end
  local results = { pcall(act, body) }
  body = nil -- luacheck: ignore
  release()
  if not results[1] then
    error(results[2], 0)
  end
  return unpack(results, 2)
end

local function traced(caught)
  return refusal.is(caught) and caught or debug.traceback(tostring(caught), 2)
end

--- Runs `act`; answers with `on_refusal(status, message)` what it refuses, and faults of ours as such.
local function guarded(act, on_refusal)
  local ok, caught = xpcall(act, traced)
  if ok then
    return
  elseif refusal.is(caught) then
    on_refusal(caught.status, caught.message)
  else
    ngx.log(ngx.ERR, caught)
    on_refusal(500, "the gateway failed at this request; its log says why")
  end
end

local function infer(request)
  local _, tensors = packer.pack(M.model, request)
  ngx.sleep(0) -- first read what else has arrived: sent one after another, requests make one batch of Triton's
  local began = ngx.now()
  local answer = triton.infer(M.model, tensors)
  ngx.update_time()
  ngx.var.triton_seconds = format("%.3f", ngx.now() - began)
  return answer, answer_of.outputs(answer, request)
end

-- --- HTTP ------------------------------------------------------------------------------------------------------------------

local function send(status, kind, parts)
  local length = 0
  for _, part in ipairs(parts) do
    length = length + #part
  end
  ngx.status = status or ngx.status
  ngx.header["Content-Type"] = kind
  ngx.header["Content-Length"] = length
  ngx.print(parts)
end

local function http_error(status, message)
  send(status, "application/json", { '{"error":', json.quote(message), "}" })
end

--- Model and version that a path names.
local function named()
  local name, rest = match(ngx.var.uri, "^/v2/models/([^/]+)(.*)$")
  return name, match(rest, "^/versions/(%d+)")
end

local function check_model(name, version)
  if name ~= M.model.name then
    refuse(404, "there is no model %s here; this pod serves %s", shown(name), shown(M.model.name))
  elseif version and version ~= "" and version ~= "1" then
    refuse(404, "there is no version %s of model %s; it has 1", shown(version), shown(name))
  end
end

--- POST /v2/models/<model>[/versions/<version>]/infer
function M.http_infer()
  guarded(function()
    check_model(named())
    local parts, header = with_body(function(body)
      local request = http_request.read(body, ngx.var.http_inference_header_content_length)
      local answer, outputs = infer(request)
      return answer_of.to_http(M.model, request, answer, outputs)
    end)
    if header then
      ngx.header["Inference-Header-Content-Length"] = header
    end
    send(200, header and "application/octet-stream" or "application/json", parts)
  end, http_error)
end

--- GET of metadata and health, of the server and of the model.
function M.http_other()
  guarded(function()
    local route = ngx.var.http_route
    if route == "server" then
      return send(200, "application/json", { '{"name":"modelship","version":"2","extensions":["binary_tensor_data"]}' })
    elseif route == "health" then
      return send(triton.is_ready(ngx.var.uri) and 200 or 503, "text/plain", { "" })
    end
    check_model(named())
    if route == "metadata" then
      return send(200, "application/json", { M.model.metadata })
    end
    send(triton.is_ready("/v2/models/" .. M.model.name .. "/ready") and 200 or 503, "text/plain", { "" })
  end, http_error)
end

--- What nginx itself refused, in words of the configuration; the status stays that of the error.
function M.error_page()
  send(nil, "application/json", { '{"error":"', ngx.var.error_text, '"}' })
end

--- Either of them.
function M.http_any()
  return (ngx.var.http_route == "infer" and M.http_infer or M.http_other)()
end

-- --- gRPC: nginx makes trailers of the variables that are set here ----------------------------------------------------------

local function grpc_send(parts)
  local length = 0
  for _, part in ipairs(parts) do
    length = length + #part
  end
  ngx.var.grpc_status = "0"
  ngx.header["Content-Type"] = "application/grpc"
  ngx.header["Content-Length"] = length + 5
  ngx.print({ protobuf.frame_head(length), parts })
end

local function encoded(message) -- percent-encoded, as gRPC's messages are
  return (message:gsub("[^ -$&-~]", function(c) return format("%%%02X", c:byte()) end))
end

local function grpc_error(status, message)
  ngx.var.grpc_status = GRPC_STATUS[status]
  ngx.var.grpc_message = encoded(message)
  ngx.header["Content-Type"] = "application/grpc"
  ngx.header["Content-Length"] = 0
end

local CALLS = {}

function CALLS.ModelInfer(body)
  local request = grpc_request.read(body)
  check_model(request.model, request.version)
  local answer, outputs = infer(request)
  return answer_of.to_grpc(M.model, request, answer, outputs)
end

local function tensor_fields(number, entries)
  local parts, field = {}, protobuf.field
  for index, entry in ipairs(entries) do
    parts[index] = field(number, field(1, entry.name) .. field(2, entry.dtype) .. protobuf.shape_field(3, entry.shape))
  end
  return concat(parts)
end

function CALLS.ModelMetadata(body)
  check_model(grpc_request.read_name(body))
  local field, model = protobuf.field, M.model
  local function property(name, value) -- a map's entry; Triton's own clients know no properties, KServe's do
    return field(6, field(1, name) .. field(2, value))
  end
  return {
    field(1, model.name), field(2, "1"), field(3, "onnxruntime_onnx"), tensor_fields(4, model.inputs), tensor_fields(5, model.outputs),
    property("packed", model.packed_json), property("maxBatchSize", tostring(model.most)),
  }
end

local function ready()
  return triton.is_ready("/v2/models/" .. M.model.name .. "/ready")
end

function CALLS.ModelReady(body)
  check_model(grpc_request.read_name(body))
  return { protobuf.number_field(1, ready()) }
end

function CALLS.ServerReady()
  return { protobuf.number_field(1, triton.is_ready("/v2/health/ready")) }
end

function CALLS.ServerLive()
  return { protobuf.number_field(1, triton.is_ready("/v2/health/live")) }
end

function CALLS.ServerMetadata()
  return { protobuf.field(1, "modelship"), protobuf.field(2, "2"), protobuf.field(3, "binary_tensor_data") }
end

function CALLS.Check(body)
  local service = grpc_request.read_name(body)
  if service ~= "" and service ~= "inference.GRPCInferenceService" then
    refuse(404, "there is no service %s here", shown(service))
  end
  return { protobuf.number_field(1, ready() and 1 or 2) }
end

--- POST /<service>/<method>
function M.grpc()
  guarded(function()
    local call = CALLS[match(ngx.var.uri, "([^/]*)$")]
    grpc_send(with_body(call))
  end, grpc_error)
end

return M
