-- One command, unless this Redis is marked (moving.py). KEYS mark, the command's key; ARGV the command, its arguments.
if redis.call('EXISTS', KEYS[1]) == 1 then
  return redis.error_reply('HOOKCASTMOVED the data of this Redis are moved to another, or are not all here yet')
end
return redis.call(ARGV[1], KEYS[2], unpack(ARGV, 2))
