-- Adds one batch behind the last one.
-- KEYS: log, checkpoint, head of one page; they share a hash tag
-- ARGV: epoch, seq, seq - 1, body, lease in ms
-- Returns 1, or 0 for a page that is lost: not at (epoch, seq - 1), or with a key evicted.
local head = redis.call('HMGET', KEYS[3], 'epoch', 'seq', 'checkpoint')
if head[1] ~= ARGV[1] or head[2] ~= ARGV[3] then return 0 end
if redis.call('EXISTS', KEYS[2]) == 0 then return 0 end
if head[2] ~= head[3] and redis.call('EXISTS', KEYS[1]) == 0 then return 0 end

-- The entry's id is its place, so a reader's position says exactly what it knows.
redis.call('XADD', KEYS[1], ARGV[1] .. '-' .. ARGV[2], 'body', ARGV[4])
redis.call('HSET', KEYS[3], 'seq', ARGV[2])
for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, ARGV[5]) end
return 1
