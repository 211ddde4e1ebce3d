-- Reads the events of deliveries. KEYS the events; ARGV for each the UID of its delivery.
-- Returns for each event: record, body, delivery, whether it was cancelled (each false where it is missing).
local found = {}
for number, event in ipairs(KEYS) do
  found[number] = redis.call('HMGET', event, 'm', 'b', 'd:' .. ARGV[number], 'c:' .. ARGV[number])
end
return found
