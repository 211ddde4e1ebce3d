-- How much there is in lanes. KEYS waiting and later of each lane. Returns for each lane: deliveries waiting, deliveries
-- later, and since when its first waiting one is due (epoch ms), or -1.
local found = {}
for at = 1, #KEYS, 2 do
  local first = redis.call('XRANGE', KEYS[at], '-', '+', 'COUNT', 1)[1]
  found[#found + 1] = redis.call('XLEN', KEYS[at])
  found[#found + 1] = redis.call('ZCARD', KEYS[at + 1])
  found[#found + 1] = first and tonumber(string.match(first[1], '^%d+')) or -1
end
return found
