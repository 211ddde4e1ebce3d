-- Publishes on channels what came out of outboxes, each event once on each channel, however often it comes.
-- KEYS for each: whether it was seen; ARGV for how many s that is remembered, then for each: channel, payload
for number, seen in ipairs(KEYS) do
  if redis.call('SET', seen, '', 'NX', 'EX', ARGV[1]) then
    redis.call('PUBLISH', ARGV[2 * number], ARGV[2 * number + 1])
  end
end
return 1
