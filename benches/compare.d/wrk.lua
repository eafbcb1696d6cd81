-- 10,000 distinct paths, made before the clock starts, so that the generator spends its time on
-- sending. The result goes to standard output as one line of numbers, read by loads.py.

local requests = {}
local next_request = 0

function init(args)
  for n = 0, 9999 do
    requests[n] = wrk.format("GET", "/k/" .. n)
  end
end

function request()
  next_request = (next_request + 7919) % 10000 -- prime to 10,000: every path, in no plain order
  return requests[next_request]
end

function done(summary, latency, _)
  local errors = summary.errors
  io.write(string.format("RESULT %d %d %d %d %d %d %d %d %d %d\n",
    summary.requests, summary.duration, summary.bytes,
    latency:percentile(50), latency:percentile(99),
    errors.connect, errors.read, errors.write, errors.status, errors.timeout))
end
