-- Cancels a delivery that has not ended: at once if it waits for a later attempt, else before its next one.
-- KEYS  mark, event, later, discarded, ARGV  UID, reference, value as it is or '', record, retention s, dead letters'
--       retention s, wake channel
-- Returns 1, or 0 if the delivery is not as the caller saw it.
local uid, reference, value, record = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local event, field = KEYS[2], 'd:' .. ARGV[1]
if redis.call('EXISTS', KEYS[1]) == 1 then
  return redis.error_reply('HOOKCASTMOVED the data of this Redis are moved to another, or are not all here yet')
end
if redis.call('EXISTS', event) == 0 or (redis.call('HGET', event, field) or '') ~= value then
  return 0
end
if redis.call('ZREM', KEYS[3], reference) == 0 then
  redis.call('HSET', event, 'c:' .. uid, 1)
  redis.call('PUBLISH', ARGV[7], uid .. ' ' .. reference)
  return 1
end
local at = redis.call('XADD', KEYS[4], '*', 'e', reference)
redis.call('HSET', event, field, record .. '\n' .. at)
if redis.call('HINCRBY', event, 'n', -1) <= 0 then
  local found = redis.call('HMGET', event, 'x', 'o')
  local kept = found[2] and math.min(3600, tonumber(ARGV[5])) or ARGV[5] -- as in move.lua
  redis.call('EXPIRE', event, tonumber(found[1] or 0) > 0 and ARGV[6] or kept)
end
return 1
