-- Reads a page as of one moment.
-- KEYS: log, checkpoint of one page; they share a hash tag
-- ARGV: the most bytes of a checkpoint, the most bytes of a log, the most entries to send
-- Returns {bytes of the checkpoint, bytes of the log, checkpoint, entries behind it}, or the bytes alone where they
-- are too many: they would fill the memory of Redis first, then that of every reader.
local sizes = {redis.call('STRLEN', KEYS[2]), redis.call('MEMORY', 'USAGE', KEYS[1]) or 0}
if sizes[1] > tonumber(ARGV[1]) or sizes[2] > tonumber(ARGV[2]) then return sizes end

local checkpoint, behind = redis.call('GET', KEYS[2]), '0-0'
local epoch, seq = string.match(checkpoint or '', '^(%d+)-(%d+) ')
-- A longer number is no place in a log, and the reader says so.
if epoch and #epoch < 20 and #seq < 20 then behind = epoch .. '-' .. seq end
return {sizes[1], sizes[2], checkpoint, redis.call('XRANGE', KEYS[1], '(' .. behind, '+', 'COUNT', ARGV[3])}
