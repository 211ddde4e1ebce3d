-- Who is on a channel. KEYS present, expiries. Returns clients, each followed by who it is.
local now = redis.call('TIME')[1]
local gone = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now)
for at = 1, #gone, 1000 do
  local some = { unpack(gone, at, math.min(at + 999, #gone)) }
  redis.call('HDEL', KEYS[1], unpack(some))
  redis.call('ZREM', KEYS[2], unpack(some))
end
return redis.call('HGETALL', KEYS[1])
