-- Replaces a page by a whole holding.
-- KEYS: log, checkpoint, head of one page; they share a hash tag
-- ARGV: epoch, seq, "epoch-seq body", lease in ms
-- Returns 1. A full node answers OOM, and what was there goes: it must not go on promising. Not so where the page
-- stands, for its checkpoint takes the place of the log that is trimmed first, and Redis refuses first writes only.
local head = redis.pcall('HMGET', KEYS[3], 'epoch', 'seq', 'checkpoint')
local stands = head[1] == ARGV[1] and tonumber(head[2]) <= tonumber(ARGV[2])
-- The log stays back to the checkpoint before this one, so that slow readers seldom meet a gap.
stands = stands and type(redis.pcall('XTRIM', KEYS[1], 'MINID', ARGV[1] .. '-' .. head[3])) == 'number'

local set = redis.pcall('SET', KEYS[2], ARGV[3])
if set.err then
  redis.call('DEL', unpack(KEYS))
  return set
end
if not stands then redis.call('DEL', KEYS[1], KEYS[3]) end
redis.call('HSET', KEYS[3], 'epoch', ARGV[1], 'seq', ARGV[2], 'checkpoint', ARGV[2])
for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, ARGV[4]) end
return 1
