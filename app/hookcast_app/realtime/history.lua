-- Reads a channel's history, and where it stands.
-- KEYS  position, history
-- ARGV  epoch if there is none, how many s the position is kept, from and to which offset ('-' and '+' are the ends; a
--       '(' before one leaves it out), how many (-1 for all, 0 for none), whether the newest come first ('1'), and how
--       many bytes they may have together: beyond that no more are given, but for the first
-- Returns epoch, offset, and publications: id, { 'p', payload }.
local AT_ONCE = 64
redis.call('HSETNX', KEYS[1], 'o', 0)
if redis.call('HSETNX', KEYS[1], 'e', ARGV[1]) == 1 then
  redis.call('DEL', KEYS[2])
end
redis.call('EXPIRE', KEYS[1], ARGV[2])
local wanted, room = tonumber(ARGV[5]), tonumber(ARGV[7])
local command, first, last = 'XRANGE', ARGV[3], ARGV[4]
if ARGV[6] == '1' then
  command, first, last = 'XREVRANGE', last, first
end
local found = {}
while wanted ~= 0 and room > 0 do
  local count = (wanted < 0 or wanted > AT_ONCE) and AT_ONCE or wanted
  local some = redis.call(command, KEYS[2], first, last, 'COUNT', count)
  for _, entry in ipairs(some) do
    room = room - #entry[2][2]
    if room >= 0 or #found == 0 then
      found[#found + 1] = entry
    end
  end
  if #some < count then
    break
  end
  first, wanted = '(' .. some[#some][1], wanted - (wanted > 0 and count or 0)
end
return { redis.call('HGET', KEYS[1], 'e'), redis.call('HGET', KEYS[1], 'o'), found }
