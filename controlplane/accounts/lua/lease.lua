-- Takes units out of a bucket, kept as the time in us at which it will be full: GCRA's theoretical arrival time.
-- KEYS: bucket
-- ARGV: units that come back a second, units when full, units needed, units wanted, most bursts below full, the clock's
-- grain in s
-- Returns {units taken, seconds until those needed are there, units left}, as text: Lua's numbers leave as integers.
local per_us, burst, need, want = ARGV[1] / 1e6, tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local time = redis.call('TIME')
local now = time[1] * 1e6 + time[2]
local full_at = tonumber(redis.call('GET', KEYS[1]) or now)

-- Not fuller than full, and no further below full than it may be: a clock set back would make it so.
local lacking = math.min(math.max(full_at - now, 0), ARGV[5] * burst / per_us)
local there, units, retry_s = burst - lacking * per_us, 0, 0
if need > burst then
  retry_s = math.huge
elseif there < need - ARGV[6] * ARGV[1] then
  retry_s = (need - there) / ARGV[1]
else
  units = math.min(want, math.max(there, need))
  lacking = lacking + units / per_us
  redis.call('SET', KEYS[1], string.format('%.17g', now + lacking), 'PX', string.format('%.0f', lacking / 1e3 + 1))
end
local left = math.max(there - units, 0)
return {string.format('%.17g', units), string.format('%.17g', retry_s), string.format('%.17g', left)}
