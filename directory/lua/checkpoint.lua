-- Replaces a page by a whole holding.
-- KEYS: log, checkpoint, head of one page; they share a hash tag
-- ARGV: epoch, seq, "epoch-seq body", lease in ms
local head = redis.call('HMGET', KEYS[3], 'epoch', 'seq', 'checkpoint')
if head[1] == ARGV[1] and tonumber(head[2]) <= tonumber(ARGV[2]) then
  -- The log stays back to the checkpoint before this one, so that slow readers seldom meet a gap.
  redis.call('XTRIM', KEYS[1], 'MINID', ARGV[1] .. '-' .. head[3])
else
  redis.call('DEL', KEYS[1])
end

redis.call('SET', KEYS[2], ARGV[3])
redis.call('HSET', KEYS[3], 'epoch', ARGV[1], 'seq', ARGV[2], 'checkpoint', ARGV[2])
for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, ARGV[4]) end
return 1
