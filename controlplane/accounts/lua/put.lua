-- Adds a tenant or a public prefix, or changes it.
-- KEYS: tenants or public prefixes, revision; they share a hash tag
-- ARGV: name, record
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return redis.call('INCR', KEYS[2])
