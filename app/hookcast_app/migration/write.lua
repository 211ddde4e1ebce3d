-- Writes pieces of keys to a Redis that is being filled, unless another run has taken over or it was opened.
-- KEYS the mark, then the keys; ARGV the mark's value, then for each key: kind, ms to live, whether its first piece (which
-- replaces the key), a stream's last id or '', number of items, and for each item: number of arguments, arguments.
-- Returns 1, or 0 if the mark is another.
local commands = { string = 'SET', hash = 'HSET', set = 'SADD', zset = 'ZADD', stream = 'XADD' }
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
-- The first write decides whether a full Redis refuses the script: this one needs memory, the deletions below do not.
redis.call('SET', KEYS[1], ARGV[1])
local at = 2
for number = 2, #KEYS do
  local key, kind, ttl, last = KEYS[number], ARGV[at], tonumber(ARGV[at + 1]), ARGV[at + 3]
  if ARGV[at + 2] == '1' then
    redis.call('DEL', key)
  end
  local items = tonumber(ARGV[at + 4])
  at = at + 5
  for _ = 1, items do
    local length = tonumber(ARGV[at])
    redis.call(commands[kind], key, unpack(ARGV, at + 1, at + length))
    at = at + 1 + length
  end
  if last ~= '' then
    redis.call('XADD', key, last, 'e', '')
    redis.call('XDEL', key, last)
  end
  if ttl >= 0 then
    redis.call('PEXPIRE', key, math.max(ttl, 1))
  end
end
return 1
