-- Forgets the one key whose digest begins so.
-- KEYS: keys, revision; they share a hash tag
-- ARGV: what it begins with
-- Returns how many do; unless it is one, nothing is changed.
local found = {}
for _, digest in ipairs(redis.call('HKEYS', KEYS[1])) do
  if string.sub(digest, 1, #ARGV[1]) == ARGV[1] then table.insert(found, digest) end
end
if #found == 1 then
  redis.call('HDEL', KEYS[1], found[1]) -- first, for once a script has written, a full store lets it write on
  redis.call('INCR', KEYS[2])
end
return #found
