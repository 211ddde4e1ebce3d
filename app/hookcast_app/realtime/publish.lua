-- Publishes on channels of one shard, in order.
-- KEYS  the position of each publication's channel
-- ARGV  verb, prefix, epoch for channels that have none, how many s positions are kept, then for each: channel, size and
--       ttl (s) of its history, key by which it is published once ('' for none), for how many s that is known, payload
-- Returns for each its offset (0 without a history) and epoch.
local verb, prefix, epoch, keep = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local answers = {}
for number = 1, #KEYS do
  local at = 6 * number - 1
  local name, once = ARGV[at], ARGV[at + 3]
  local key = once ~= '' and prefix .. 'once:' .. name .. ':key ' .. once
  local before = key and redis.call('GET', key)
  if before then
    local offset, known = string.match(before, '^(%d+):(.*)$')
    answers[number] = { tonumber(offset), known }
  else
    local answer = publish_on(verb, prefix, name, ARGV[at + 5], ARGV[at + 1], ARGV[at + 2], keep, epoch)
    if key then
      redis.call('SET', key, string.format('%.0f:%s', answer[1], answer[2]), 'EX', ARGV[at + 4])
    end
    answers[number] = answer
  end
end
return answers
