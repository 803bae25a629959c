-- A form of a hundred bytes.
dofile("report.lua")
wrk.method = "POST"
wrk.body = string.rep("name=value&", 9)
wrk.headers["Content-Type"] = "application/x-www-form-urlencoded"
