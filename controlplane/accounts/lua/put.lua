-- Adds a tenant, or changes it.
-- KEYS: tenants, revision; they share a hash tag
-- ARGV: name, record
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return redis.call('INCR', KEYS[2])
