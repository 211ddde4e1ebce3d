-- Asks what became of ids that publishers chose, and reserves them for other partitions: what an id may be used for is
-- decided where it belongs, wherever its event goes.
-- KEYS mark, switches, ids that are remembered, their order; ARGV how often the caller knows the layout to have changed
-- ('' only asks), for how many s an id is remembered, then for each: ref, what must be known for it to be reserved, and
-- what is remembered then
-- Returns for each what was known before: digest (16 bytes) and number of matches, or digest and '@' and a tag; '' nothing.
if redis.call('EXISTS', KEYS[1]) == 1 then
  return redis.error_reply('HOOKCASTMOVED the data of this Redis are moved to another, or are not all here yet')
end
local asks, dedup = ARGV[1] == '', tonumber(ARGV[2])
if not asks and string.match(redis.call('GET', KEYS[2]) or '0', '^%d+') ~= ARGV[1] then
  return redis.error_reply('HOOKCASTLAYOUT there are more partitions now')
end
local known_ids, order = KEYS[3], KEYS[4]
redis.call('XLEN', order)
local now = tonumber(redis.call('TIME')[1])
local at_second = struct.pack('>I4', now)
local found = {}
for at = 3, #ARGV, 3 do
  local ref, expected, wanted = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local value = redis.call('HGET', known_ids, ref)
  local known = value and struct.unpack('>I4', value) + dedup >= now and string.sub(value, 5) or ''
  if known == expected and not asks then
    redis.call('HSET', known_ids, ref, at_second .. wanted)
    redis.call('XADD', order, '*', 'e', at_second .. ref)
  end
  found[#found + 1] = known
end
return found
