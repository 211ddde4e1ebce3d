-- Ends a partition's earlier layouts: nothing is published to it by them any more. KEYS mark, switches; ARGV how many
-- changes of the layout there have been.
-- Returns that number and when (epoch ms) each of them came to this partition; it stays what it was if it is higher.
if redis.call('EXISTS', KEYS[1]) == 1 then
  return redis.error_reply('HOOKCASTMOVED the data of this Redis are moved to another, or are not all here yet')
end
local switches = redis.call('GET', KEYS[2]) or '0'
local count = tonumber(string.match(switches, '^%d+'))
if count < tonumber(ARGV[1]) then
  local time = redis.call('TIME')
  -- The next millisecond: what was published in this one is of before.
  local now = string.format(' %.0f', time[1] * 1000 + math.floor(time[2] / 1000) + 1)
  switches = ARGV[1] .. string.match(switches, '^%d+(.*)$') .. string.rep(now, ARGV[1] - count)
  redis.call('SET', KEYS[2], switches)
end
return switches
