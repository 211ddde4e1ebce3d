-- Takes publications from a partition's outbox, in order, by the one process that holds it; what was relayed goes.
-- KEYS mark, relay, outbox; ARGV token, lease ms, how many, then the entries that were relayed
-- Returns entries, or nothing if another process holds the outbox.
if redis.call('EXISTS', KEYS[1]) == 1 then
  return false
end
local holder = redis.call('GET', KEYS[2])
if holder and holder ~= ARGV[1] then
  return false
end
if #ARGV > 3 then
  redis.call('XDEL', KEYS[3], unpack(ARGV, 4))
end
if ARGV[3] == '0' then
  redis.call('DEL', KEYS[2])
  return {}
end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
return redis.call('XRANGE', KEYS[3], '-', '+', 'COUNT', ARGV[3])
