-- Says of client ids of one shard that connections hold them for an owner, or hold them no longer.
-- KEYS  for each: claim (who owns it), holders (its connections, by when they are believed to be there)
-- ARGV  for how many s that is believed, then for each: owner ('' if the connection has gone), connection
-- Returns for each whether the client id is that owner's (1), or another one's (0).
local now = tonumber(redis.call('TIME')[1])
local answers = {}
for number = 1, #KEYS / 2 do
  local claim, holders = KEYS[2 * number - 1], KEYS[2 * number]
  local owner, connection = ARGV[2 * number], ARGV[2 * number + 1]
  redis.call('ZREMRANGEBYSCORE', holders, '-inf', now)
  if owner == '' then
    redis.call('ZREM', holders, connection)
  end
  if redis.call('ZCARD', holders) == 0 then
    redis.call('DEL', claim)
  end
  local before = redis.call('GET', claim)
  answers[number] = 1
  if owner ~= '' and before and before ~= owner then
    answers[number] = 0
  elseif owner ~= '' then
    redis.call('SET', claim, owner, 'EX', ARGV[1])
    redis.call('ZADD', holders, now + ARGV[1], connection)
    redis.call('EXPIRE', holders, ARGV[1])
  end
end
return answers
