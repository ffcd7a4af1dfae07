-- Every request has a caller of its own or, with pairs_in_turn > 0, the next one of that many.
local token, run, pairs_in_turn
local count = 0

function init(args)
  token, run, pairs_in_turn = args[1], args[2], tonumber(args[3])
end

function request()
  count = count + 1
  local caller = pairs_in_turn > 0 and count % pairs_in_turn or count
  return wrk.format("POST", "/v1/allocate", {
    ["Authorization"] = "Bearer " .. token,
    ["X-Instruqt-Sandbox-ID"] = run .. "-" .. caller,
  })
end

function done(summary, latency, requests)
  local faults = summary.errors
  io.write(string.format('{"answers":%d,"micros":%d,"p50":%d,"p95":%d,"p99":%d,"faults":%d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(95), latency:percentile(99),
    faults.connect + faults.read + faults.write + faults.status + faults.timeout))
end
