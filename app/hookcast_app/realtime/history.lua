-- Reads a channel's history, and where it stands.
-- KEYS  position, history
-- ARGV  epoch if there is none, how many s the position is kept, from and to which offset ('-' and '+' are the ends; a
--       '(' before one leaves it out), how many (-1 for all, 0 for none), whether the newest come first ('1')
-- Returns epoch, offset, and publications: id, { 'p', payload }.
redis.call('HSETNX', KEYS[1], 'o', 0)
if redis.call('HSETNX', KEYS[1], 'e', ARGV[1]) == 1 then
  redis.call('DEL', KEYS[2])
end
redis.call('EXPIRE', KEYS[1], ARGV[2])
local found = {}
if ARGV[5] ~= '0' then
  local command, first, last = 'XRANGE', ARGV[3], ARGV[4]
  if ARGV[6] == '1' then
    command, first, last = 'XREVRANGE', last, first
  end
  if ARGV[5] == '-1' then
    found = redis.call(command, KEYS[2], first, last)
  else
    found = redis.call(command, KEYS[2], first, last, 'COUNT', ARGV[5])
  end
end
return { redis.call('HGET', KEYS[1], 'e'), redis.call('HGET', KEYS[1], 'o'), found }
