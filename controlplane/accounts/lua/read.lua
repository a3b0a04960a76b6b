-- Reads the registry as of one moment.
-- KEYS: tenants, keys, revision, public prefixes; they share a hash tag
-- Returns {revision, {name, record, ...}, {digest, record, ...}, {name, record, ...}}
local revision = tonumber(redis.call('GET', KEYS[3]) or 0)
local function all(key) return redis.call('HGETALL', key) end
return {revision, all(KEYS[1]), all(KEYS[2]), all(KEYS[4])}
