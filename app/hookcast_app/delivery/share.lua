-- Tells the other dispatchers how many lanes this one holds, and counts them all. On a marked Redis (redis/moving.py)
-- nothing is written.
--
-- KEYS  mark, dispatchers
-- ARGV  token, lanes held or '' (it ends), for how many ms this is believed
-- Returns the number of dispatchers that are there, this one included, and of the lanes that they hold.
local token, held, ttl = ARGV[1], ARGV[2], tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if redis.call('EXISTS', KEYS[1]) == 1 then
  return { 1, tonumber(held) or 0 }
end
redis.call('HDEL', KEYS[2], token) -- first, for it needs no memory: see turn.lua
local dispatchers, lanes = 0, 0
if held ~= '' then
  redis.call('HSET', KEYS[2], token, string.format('%.0f %s', now + ttl, held))
end
local all = redis.call('HGETALL', KEYS[2])
for at = 1, #all, 2 do
  local until_ms, count = string.match(all[at + 1], '^(%d+) (%d+)$')
  if tonumber(until_ms) < now then
    redis.call('HDEL', KEYS[2], all[at])
  else
    dispatchers, lanes = dispatchers + 1, lanes + tonumber(count)
  end
end
return { dispatchers, lanes }
