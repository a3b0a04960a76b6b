-- Forgets a public prefix.
-- KEYS: public prefixes, revision; they share a hash tag
-- ARGV: name
-- Returns how many had that name: 1 or 0.
local found = redis.call('HDEL', KEYS[1], ARGV[1]) -- first, as in revoke.lua
if found == 1 then redis.call('INCR', KEYS[2]) end
return found
