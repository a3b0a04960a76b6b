-- Reads the name epochs.
-- KEYS: epochs, as begin_epoch.lua says
-- Returns {present} or {present, ending}.
local epochs = {}
local flat = redis.call('HGETALL', KEYS[1])
for i = 1, #flat, 2 do epochs[flat[i]] = tonumber(flat[i + 1]) end
return {epochs.present or 0, epochs.ending}
