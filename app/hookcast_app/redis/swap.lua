-- Compare and swap. KEYS the key; ARGV what it must hold and what it shall hold, each empty for none. Returns 1 or 0.
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then
  return 0
end
-- A Redis that is out of memory refuses a script at its first write if that could need memory; this one cannot, and is
-- refused nothing after it. A full Redis must be able to be left.
redis.call('DEL', KEYS[1])
if ARGV[2] ~= '' then
  redis.call('SET', KEYS[1], ARGV[2])
end
return 1
