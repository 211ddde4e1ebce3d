-- Forgets ids that publishers gave: those that are too old, and the oldest of those that are too many.
--
-- KEYS  mark, ids that are remembered, their order
-- ARGV  dedup s, how many may be remembered (0: any number), how many to forget now at the most
-- Returns how many were forgotten, and for how many seconds ids are remembered now.
if redis.call('EXISTS', KEYS[1]) == 1 then
  return redis.error_reply('HOOKCASTMOVED the data of this Redis are moved to another, or are not all here yet')
end
local known_ids, order = KEYS[2], KEYS[3]
local dedup, most, limit = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local now = tonumber(redis.call('TIME')[1])
local length = redis.call('XLEN', order)
local excess = most > 0 and length - most or 0
local entries = redis.call('XRANGE', order, '-', '+', 'COUNT', limit + 1)

local refs = {}
for number = 1, math.min(#entries, limit) do
  local value = entries[number][2][2]
  if number > excess and struct.unpack('>I4', value) + dedup >= now then
    break
  end
  refs[number] = string.sub(value, 5)
end
local forgotten, gone = #refs, {}
if forgotten > 0 then
  local found = redis.call('HMGET', known_ids, unpack(refs))
  for number, ref in ipairs(refs) do
    -- An id that was too old already may have been given, and remembered, again.
    if found[number] and string.sub(found[number], 1, 4) == string.sub(entries[number][2][2], 1, 4) then
      gone[#gone + 1] = ref
    end
  end
  redis.call('HDEL', known_ids, '', unpack(gone))
  redis.call('XTRIM', order, 'MAXLEN', length - forgotten)
end
local oldest = entries[forgotten + 1]
if most > 0 and length - forgotten >= most and oldest then
  return { forgotten, math.min(now - struct.unpack('>I4', oldest[2][2]), dedup) }
end
return { forgotten, dedup }
