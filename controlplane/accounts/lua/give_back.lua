-- Returns units to a bucket, kept as lease.lua says, or takes what was used beyond a lease.
-- KEYS: bucket
-- ARGV: units that come back a second, units when full, units returned (negative: taken), most bursts below full
local per_us, burst = ARGV[1] / 1e6, tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1e6 + time[2]
local full_at = tonumber(redis.call('GET', KEYS[1]) or now)

local most = ARGV[4] * burst / per_us
local lacking = math.min(math.min(math.max(full_at - now, 0), most) - ARGV[3] / per_us, most)
if lacking <= 0 then return redis.call('DEL', KEYS[1]) end
redis.call('SET', KEYS[1], string.format('%.17g', now + lacking), 'PX', string.format('%.0f', lacking / 1e3 + 1))
return 1
