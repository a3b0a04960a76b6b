-- Holds places for a router, in place of what it held.
-- KEYS: claims, a hash of router -> "places end", the end in us
-- ARGV: router, places wanted, places in all, us until the claim ends
-- Returns how many it holds.
local time = redis.call('TIME')
local now = time[1] * 1e6 + time[2]
local finish, others, last = now + ARGV[4], 0, now + ARGV[4]
local claims = redis.call('HGETALL', KEYS[1])
for i = 1, #claims, 2 do
  local places, ends = string.match(claims[i + 1], '^(%d+) (%d+)$')
  if tonumber(ends) <= now then
    redis.call('HDEL', KEYS[1], claims[i])
  elseif claims[i] ~= ARGV[1] then
    others, last = others + places, math.max(last, tonumber(ends))
  end
end

local held = math.max(0, math.min(tonumber(ARGV[2]), ARGV[3] - others))
redis.call('HDEL', KEYS[1], ARGV[1])
if held > 0 then redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f %.0f', held, finish)) end
redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', last / 1e3 + 1))
return held
