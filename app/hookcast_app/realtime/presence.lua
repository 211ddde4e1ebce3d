-- Says of clients that they are on channels of one shard, or are there no longer.
-- KEYS  for each: present, expiries
-- ARGV  for how many s they are believed to be there, then for each: client, who it is ('' if it has gone)
local now = tonumber(redis.call('TIME')[1])
for number = 1, #KEYS / 2 do
  local present, expiries = KEYS[2 * number - 1], KEYS[2 * number]
  local client, info = ARGV[2 * number], ARGV[2 * number + 1]
  if info == '' then
    redis.call('HDEL', present, client)
    redis.call('ZREM', expiries, client)
  else
    redis.call('HSET', present, client, info)
    redis.call('ZADD', expiries, now + ARGV[1], client)
    redis.call('EXPIRE', present, ARGV[1])
    redis.call('EXPIRE', expiries, ARGV[1])
  end
end
return 1
