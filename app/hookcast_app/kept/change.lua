-- Changes what users keep by REST, if it is at the version that the caller knows; everybody is told.
-- KEYS  mark, version, subscriptions, secrets
-- ARGV  version as it is, channel, then triples: which of the two ('subscriptions' or 'secrets'), field, value ('' deletes)
-- Returns the new version, or 0 if it is another one already.
if redis.call('EXISTS', KEYS[1]) == 1 then
  return redis.error_reply('HOOKCASTMOVED the data of this Redis are moved to another, or are not all here yet')
end
if (redis.call('GET', KEYS[2]) or '0') ~= ARGV[1] then
  return 0
end
local kept = { subscriptions = KEYS[3], secrets = KEYS[4] }
for at = 3, #ARGV, 3 do
  if ARGV[at + 2] == '' then
    redis.call('HDEL', kept[ARGV[at]], ARGV[at + 1])
  else
    redis.call('HSET', kept[ARGV[at]], ARGV[at + 1], ARGV[at + 2])
  end
end
local version = redis.call('INCR', KEYS[2])
redis.call('PUBLISH', ARGV[2], version)
return version
