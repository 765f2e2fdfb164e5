-- Small files by wrk (https://github.com/wg/wrk, SCRIPTING): each of its threads has one connection, and uploads one
-- file after the other, by BITS (three requests) or by PUT (one).
--
--   wrk ... -s small.lua URL -- bits|put BYTES
--
-- Ends with a line "files N refused N".

local threads = {}

function setup(thread)
  thread:set("number", #threads)
  table.insert(threads, thread)
end

function init(arguments)
  is_put = arguments[1] == "put"
  local bytes = tonumber(arguments[2])
  content = string.rep("x", bytes)
  range = string.format("bytes 0-%d/%d", bytes - 1, bytes)
  made, files, refused = 0, 0, 0
  begin()
end

-- What is sent next: "Create-Session", "Fragment", "Close-Session", or "PUT".
function begin()
  made = made + 1
  path = string.format("/wrk-%d-%d.bin", number, made)
  step = is_put and "PUT" or "Create-Session"
end

function request()
  if number == 0 and not is_looked_at then
    -- wrk parses the very first one, and does not send it; its parser does not know BITS_POST.
    is_looked_at = true
    return wrk.format("GET", "/")
  end
  if step == "PUT" then
    return wrk.format("PUT", path, nil, content)
  end
  local fields = { ["BITS-Packet-Type"] = step, ["BITS-Session-Id"] = session }
  if step == "Create-Session" then
    fields["BITS-Supported-Protocols"] = "{7df0354d-249b-430f-820d-3d2a9bef4931}"
    fields["Content-Length"] = "0"
  elseif step == "Close-Session" then
    fields["Content-Length"] = "0"
  else
    fields["Content-Range"] = range
  end
  return wrk.format("BITS_POST", path, fields, step == "Fragment" and content or nil)
end

function response(status, headers)
  if status >= 300 then
    refused = refused + 1
    session = nil
    return begin()
  end
  if step == "Create-Session" then
    session, step = headers["BITS-Session-Id"], "Fragment"
  elseif step == "Fragment" then
    step = "Close-Session"
  else
    files = files + 1
    session = nil
    begin()
  end
end

function done()
  local all, failed = 0, 0
  for _, thread in ipairs(threads) do
    all = all + thread:get("files")
    failed = failed + thread:get("refused")
  end
  print(string.format("files %d refused %d", all, failed))
end
