-- Ends the name epoch before one, if that one is present.
-- KEYS: epochs, as begin_epoch.lua says
-- ARGV: the one that is present
if redis.call('HGET', KEYS[1], 'present') ~= ARGV[1] then return 0 end
return redis.call('HDEL', KEYS[1], 'ending')
