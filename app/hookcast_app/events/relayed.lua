-- Publishes on channels what came out of outboxes, each event once on each channel, however often it comes.
-- Goes behind realtime/publication.lua.
-- KEYS  for each: whether it was published
-- ARGV  verb, epoch for channels that have none, for how many s positions are kept and for how many s it is known what was
--       published, then for each: prefix, channel, size and ttl (s) of its history, payload
for number, seen in ipairs(KEYS) do
  if redis.call('SET', seen, '', 'NX', 'EX', ARGV[4]) then
    local at = 5 * number
    publish_on(ARGV[1], ARGV[at], ARGV[at + 1], ARGV[at + 4], ARGV[at + 2], ARGV[at + 3], ARGV[3], ARGV[2])
  end
end
return 1
