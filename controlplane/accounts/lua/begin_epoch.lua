-- Begins the next name epoch, unless the last one that began has yet to take over.
-- KEYS: epochs, a hash of present and, while a rotation lasts, ending
-- Returns the epoch that is present, 0 for one that may not begin.
if redis.call('HEXISTS', KEYS[1], 'ending') == 1 then return 0 end
local present = tonumber(redis.call('HGET', KEYS[1], 'present') or 0)
redis.call('HSET', KEYS[1], 'present', present + 1, 'ending', present)
return present + 1
