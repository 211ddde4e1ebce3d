-- Asks what became of ids that publishers chose, and reserves those that are new for another partition: what an id may be
-- used for is decided where it belongs, wherever its event goes.
-- KEYS mark, switches, then the dedup keys; ARGV how often the caller knows the layout to have changed ('' only asks),
-- for how many s an id is remembered, then for each: digest (16 bytes), tag of the partition that it goes to
-- Returns for each what was known before: digest and number of matches, or digest and '@' and a tag; '' nothing.
if redis.call('EXISTS', KEYS[1]) == 1 then
  return redis.error_reply('HOOKCASTMOVED the data of this Redis are moved to another, or are not all here yet')
end
local asks = ARGV[1] == ''
if not asks and string.match(redis.call('GET', KEYS[2]) or '0', '^%d+') ~= ARGV[1] then
  return redis.error_reply('HOOKCASTLAYOUT there are more partitions now')
end
local found = {}
for number = 3, #KEYS do
  found[number - 2] = redis.call('GET', KEYS[number]) or ''
  if found[number - 2] == '' and not asks then
    local at = 2 * (number - 2)
    redis.call('SET', KEYS[number], ARGV[at + 1] .. '@' .. ARGV[at + 2], 'EX', ARGV[2])
  end
end
return found
