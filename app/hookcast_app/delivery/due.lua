-- Lanes that want attention. KEYS ring; ARGV horizon ms, limit. Returns their UIDs, the longest waiting first.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now + tonumber(ARGV[1])),
  'LIMIT', 0, tonumber(ARGV[2]))
