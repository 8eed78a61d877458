-- wrk script: cycles through the bodies of B_BODY (one per line, B_HEX=1: hexadecimal; none: GET) and prints JSON.
-- B_PAUSE: milliseconds a connection waits on average before its next request.
local requests, n, i = {}, 0, 0
function init(args)
  local path, file = os.getenv("B_PATH"), os.getenv("B_BODY")
  local headers = {["Content-Type"] = "application/json"}
  for k, v in string.gmatch(os.getenv("B_HEADERS") or "", "([^:|]+): ([^|]+)") do headers[k] = v end
  if file == "" then requests[1] = wrk.format("GET", path, {}); n = 1; return end
  for line in io.lines(file) do
    if os.getenv("B_HEX") == "1" then line = line:gsub("..", function(x) return string.char(tonumber(x, 16)) end) end
    n = n + 1; requests[n] = wrk.format("POST", path, headers, line)
  end
end
function request() i = i % n + 1; return requests[i] end
local pause = tonumber(os.getenv("B_PAUSE") or "")
if pause then function delay() return math.random(0, 2 * pause) end end
function done(s, l, r)
  local e = s.errors
  io.write(string.format('\nJSON {"requests":%d,"seconds":%.6f,"p50":%d,"p99":%d,"errors":%d}\n', s.requests,
    s.duration / 1e6, l:percentile(50), l:percentile(99), e.connect + e.read + e.write + e.status + e.timeout))
end
