-- Errors that are answers: what a client did, with the HTTP status that says so.

local format = string.format

local M = {}
local Refusal = { __tostring = function(self) return self.message end }

--- Ends the request with `status` and a sentence for the client.
function M.refuse(status, text, ...)
  local message = select("#", ...) > 0 and format(text, ...) or text
  error(setmetatable({ status = status, message = message }, Refusal), 0)
end

--- Whether a caught error is such an answer, and not a fault of ours.
function M.is(caught)
  return getmetatable(caught) == Refusal
end

--- A name or a value as a message shows it: quoted, shortened, and plain text whatever it holds.
function M.shown(text)
  if #text > 80 then
    text = text:sub(1, 60):gsub("[\128-\255]*$", "") .. "..."
  end
  return '"' .. text:gsub('[%c"\\]', "?") .. '"'
end

return M
