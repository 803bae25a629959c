-- Many URLs: PATH0 to PATH(KEYS-1), drawn by Zipf's law or evenly, prepared before the clock starts; or each new, counted up.
-- Arguments: zipf|even|new PATH KEYS EXPONENT
dofile("report.lua")

-- Requests are drawn again from the beginning after so many. Prepared texts are shared, so that a page costs memory once.
local SEQUENCE = 262144

local sequence = {}
local place = 0

local function drawn(law, path, keys, exponent)
    local reach, sum = {}, 0
    for rank = 1, keys do
        sum = sum + (law == "zipf" and 1 / rank ^ exponent or 1)
        reach[rank] = sum
    end
    -- Popular pages lie anywhere among the keys; the step has no common factor with usual numbers of them.
    local texts, step = {}, 7919
    math.randomseed(7)
    for at = 1, SEQUENCE do
        local wanted, low, high = math.random() * sum, 1, keys
        while low < high do
            local middle = math.floor((low + high) / 2)
            if reach[middle] < wanted then low = middle + 1 else high = middle end
        end
        local key = (low * step) % keys
        texts[key] = texts[key] or wrk.format("GET", path .. key)
        sequence[at] = texts[key]
    end
end

function init(args)
    local law, path, keys, exponent = args[1], args[2], tonumber(args[3]), tonumber(args[4])
    if law == "new" then
        local text = wrk.format("GET", path .. "@")
        local before, after = text:match("^(.-)@(.*)$")
        request = function()
            place = place + 1
            return before .. place .. after
        end
    else
        drawn(law, path, keys, exponent)
    end
end

function request()
    place = place % SEQUENCE + 1
    return sequence[place]
end
