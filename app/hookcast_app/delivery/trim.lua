-- Cuts lists of settled deliveries where their events are gone. KEYS mark, then the lists; ARGV until when (epoch ms).
if redis.call('EXISTS', KEYS[1]) == 1 then
  return redis.error_reply('HOOKCASTMOVED the data of this Redis are moved to another, or are not all here yet')
end
for number = 2, #KEYS do
  redis.call('XTRIM', KEYS[number], 'MINID', ARGV[1] .. '-0')
end
