-- Adds a key, or changes it.
-- KEYS: tenants, keys, revision; they share a hash tag
-- ARGV: tenant, digest, record
-- Returns the revision, 0 for a tenant that is not there, -1 where the key is another tenant's.
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 0 end
local known = redis.call('HGET', KEYS[2], ARGV[2])
if known and cjson.decode(known).tenant ~= ARGV[1] then return -1 end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
return redis.call('INCR', KEYS[3])
