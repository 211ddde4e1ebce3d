-- Changes what users keep by REST, if it is at the version that the caller knows; everybody is told.
-- KEYS  mark, version, subscriptions, secrets, changes
-- ARGV  version as it is, channel, the change's token, how many changes are remembered, then triples: which of the two
--       ('subscriptions' or 'secrets'), field, value ('' deletes)
-- Returns the new version, or 0 if it is another one already.
if redis.call('EXISTS', KEYS[1]) == 1 then
  return redis.error_reply('HOOKCASTMOVED the data of this Redis are moved to another, or are not all here yet')
end
if (redis.call('GET', KEYS[2]) or '0') ~= ARGV[1] then
  return 0
end
local kept = { subscriptions = KEYS[3], secrets = KEYS[4] }
local change = { ARGV[3] }
for at = 5, #ARGV, 3 do
  if ARGV[at + 2] == '' then
    redis.call('HDEL', kept[ARGV[at]], ARGV[at + 1])
  else
    redis.call('HSET', kept[ARGV[at]], ARGV[at + 1], ARGV[at + 2])
  end
  change[#change + 1] = ARGV[at]
  change[#change + 1] = ARGV[at + 1]
end
local version = redis.call('INCR', KEYS[2])
redis.call('HSET', KEYS[5], version, cjson.encode(change))
redis.call('HDEL', KEYS[5], version - ARGV[4])
redis.call('PUBLISH', ARGV[2], version)
return version
