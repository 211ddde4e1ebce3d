-- Takes the task that has waited the longest, and leaves it alone for a while. KEYS mark, tasks; ARGV ms.
-- Returns its id, or nothing.
if redis.call('EXISTS', KEYS[1]) == 1 then
  return false
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local id = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', string.format('%.0f', now), 'LIMIT', 0, 1)[1]
if id then
  redis.call('ZADD', KEYS[2], now + tonumber(ARGV[1]), id)
end
return id or false
