-- Forgets lanes whose subscriptions are gone: first what is known of their endpoints, and, when the time of all that they
-- delivered is over, the lanes themselves. One that has deliveries, or that somebody works, is left alone.
--
-- KEYS  mark, hungry, disabled, failing, buried, then for each lane: lease, waiting, later, delivered, dead, discarded
-- ARGV  retention s, dead letters' retention s, then for each lane: its UID
-- Returns how many lanes there are no more.
if redis.call('EXISTS', KEYS[1]) == 1 then
  return redis.error_reply('HOOKCASTMOVED the data of this Redis are moved to another, or are not all here yet')
end
local hungry, disabled, failing, buried = KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function cut(place, seconds)
  redis.call('XTRIM', place, 'MINID', string.format('%.0f-0', math.max(now - seconds * 1000, 0)))
  return redis.call('XLEN', place)
end

local gone = 0
for number = 3, #ARGV do
  local key, uid = 6 + 6 * (number - 3), ARGV[number]
  local lease, waiting, later, delivered, dead, discarded = unpack(KEYS, key, key + 5)
  if redis.call('EXISTS', lease, later) == 0 and redis.call('XLEN', waiting) == 0 then
    redis.call('HDEL', disabled, uid)
    redis.call('HDEL', failing, uid)
    local dead_letters = cut(dead, tonumber(ARGV[2]))
    if dead_letters == 0 then
      redis.call('SREM', buried, uid)
    end
    if dead_letters + cut(delivered, tonumber(ARGV[1])) + cut(discarded, tonumber(ARGV[1])) == 0 then
      redis.call('UNLINK', waiting, delivered, dead, discarded)
      redis.call('SREM', hungry, uid)
      gone = gone + 1
    end
  end
end
return gone
