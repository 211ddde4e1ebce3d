-- Reads the events of deliveries. KEYS the events; ARGV for each the field of its delivery.
-- Returns for each event: record, body, delivery (each false where it is missing).
local found = {}
for number, event in ipairs(KEYS) do
  found[number] = redis.call('HMGET', event, 'm', 'b', ARGV[number])
end
return found
