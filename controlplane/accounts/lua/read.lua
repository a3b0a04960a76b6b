-- Reads the registry as of one moment.
-- KEYS: tenants, keys, revision; they share a hash tag
-- Returns {revision, {name, record, ...}, {digest, record, ...}}
return {tonumber(redis.call('GET', KEYS[3]) or 0), redis.call('HGETALL', KEYS[1]), redis.call('HGETALL', KEYS[2])}
