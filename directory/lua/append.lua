-- Adds one batch behind the last one.
-- KEYS: log, checkpoint, head of one page; they share a hash tag
-- ARGV: epoch, seq, seq - 1, body, lease in ms
-- Returns 1, or 0 for a page that is lost: not at (epoch, seq - 1), or with a key gone or of another's making.
-- A full node answers OOM. Whatever cannot be added may be a removal, so the page goes: it must not go on promising.
local head = redis.pcall('HMGET', KEYS[3], 'epoch', 'seq', 'checkpoint')
if head[1] ~= ARGV[1] or head[2] ~= ARGV[3] then return 0 end
local place = head[1] .. '-' .. tostring(head[3]) .. ' '
if redis.pcall('GETRANGE', KEYS[2], 0, #place - 1) ~= place then return 0 end
if head[2] ~= head[3] and redis.call('EXISTS', KEYS[1]) == 0 then return 0 end

-- The entry's id is its place, so a reader's position says exactly what it knows.
local added = redis.pcall('XADD', KEYS[1], ARGV[1] .. '-' .. ARGV[2], 'body', ARGV[4])
if type(added) == 'table' then
  redis.call('DEL', unpack(KEYS))
  return string.find(added.err, 'OOM', 1, true) and added or 0
end
redis.call('HSET', KEYS[3], 'seq', ARGV[2])
for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, ARGV[5]) end
return 1
