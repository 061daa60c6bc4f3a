-- Requests for wrk, from a file: "path<TAB>body" a line, sent in that order again and again. Started by generators.py:
--   wrk ... URL -- FILE
-- Prints one line "RESULT {json}" when done. Times are in microseconds, as wrk has them.

local requests = {}
local position = 0

function init(args)
   for line in io.lines(args[1]) do
      local path, body = line:match("^([^\t]*)\t(.*)$")
      local headers = { ["Content-Type"] = "application/json" }
      requests[#requests + 1] = body == "" and wrk.format("GET", path) or wrk.format("POST", path, headers, body)
   end
end

function request()
   position = position % #requests + 1
   return requests[position]
end

function done(summary, latency, _)
   local errors = summary.errors
   print(string.format(
      'RESULT {"requests": %d, "duration": %d, "p50": %d, "p90": %d, "p99": %d, "p999": %d, "max": %d, ' ..
      '"refused": %d, "broken": %d}',
      summary.requests, summary.duration,
      latency:percentile(50), latency:percentile(90), latency:percentile(99), latency:percentile(99.9), latency.max,
      errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
