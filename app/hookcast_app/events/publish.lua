-- Accepts a batch of events: stores each with one reference per matching lane, and publishes it on its channels.
-- One call, so that an event, its deliveries and its publications are there together or not at all. Everything is
-- read first: a key of a wrong type raises before anything is written.
--
-- Goes behind realtime/publication.lua. Without a relay channels' keys are not among KEYS: no cluster takes part then.
--
-- KEYS  ring, hungry, index of events, mark, switches, outbox, bytes stored, ids that are remembered, their order,
--       then each lane's waiting stream, then each event's own key
-- ARGV  number of lanes, number of events, retention s, dedup s, wake channel, how often the caller knows the layout to
--       have changed, the channel that wakes the relay ('' publishes here and now), what stands for this partition where
--       an id is reserved, a new epoch for channels, for how many s their positions are kept, then each lane's UID,
--       then for each event: reference, digest (16 bytes, or empty), record, body,
--       number of matches, the matching lanes' numbers, number of channels, and if there are any: payload, then for the
--       relay their names, else for each of them prefix, channel, size and ttl (s) of its history
-- Returns for each event: -1 stored, -2 id used before for another body, -3 it is in another partition, else it is a
--       duplicate and this is how many subscriptions matched the first time.
local lanes, events = tonumber(ARGV[1]), tonumber(ARGV[2])
local retention, dedup, wake, relay, here = tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5], ARGV[7], ARGV[8]
local per_channel = relay == '' and 4 or 1
local ring, hungry, index, outbox, stored, known_ids, order = KEYS[1], KEYS[2], KEYS[3], KEYS[6], KEYS[7], KEYS[8], KEYS[9]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- What an event takes beyond its record and body, and for each of its deliveries, its attempt included: as measured
-- (docs/operations.md), so that HOOKCAST_RETENTION_BYTES is about memory.
local event_bytes, delivery_bytes = 450, 270

if redis.call('EXISTS', KEYS[4]) == 1 then
  return redis.error_reply('HOOKCASTMOVED the data of this Redis are moved to another, or are not all here yet')
end
-- See redis/partitions.py. What is published in a switch's own millisecond could not be told from what was before it.
local switches = redis.call('GET', KEYS[5])
if (switches and string.match(switches, '^%d+') or '0') ~= ARGV[6]
  or switches and now < tonumber(string.match(switches, '%d+$')) then
  return redis.error_reply('HOOKCASTLAYOUT there are more partitions now')
end
redis.call('ZCARD', ring)
redis.call('SCARD', hungry)
redis.call('XLEN', index)
local unrelayed = redis.call('XLEN', outbox)
local lengths = {}
for lane = 1, lanes do
  lengths[lane] = redis.call('XLEN', KEYS[9 + lane])
end

local at_second

local function remembered(ref)
  if not at_second then
    at_second = struct.pack('>I4', time[1])
    redis.call('XLEN', order)
  end
  local value = redis.call('HGET', known_ids, ref)
  if value and struct.unpack('>I4', value) + dedup >= tonumber(time[1]) then
    return string.sub(value, 5)
  end
end

local verdicts, batch, seen = {}, {}, {}
local arg, bytes = 11 + lanes, 0
for number = 1, events do
  local event = { key = KEYS[9 + lanes + number], reference = ARGV[arg], digest = ARGV[arg + 1], at = arg + 2 }
  local verdict = -1
  if event.digest ~= '' then
    event.ref = string.match(event.reference, '^%S+')
    local known = seen[event.key] or remembered(event.ref) or redis.call('HGET', event.key, 'h')
    local rest = known and string.sub(known, 17)
    if rest and string.sub(rest, 1, 1) == '@' and rest ~= here then
      verdict = -3
    elseif rest and rest ~= here then
      verdict = string.sub(known, 1, 16) == event.digest and tonumber(rest) or -2
    else -- new, or reserved for here and did not come
      seen[event.key] = event.digest .. ARGV[arg + 4]
    end
  end
  verdicts[number] = verdict
  if verdict == -1 then
    batch[#batch + 1] = event
    event.bytes = #ARGV[arg + 2] + #ARGV[arg + 3] + event_bytes + delivery_bytes * ARGV[arg + 4]
    bytes = bytes + event.bytes
  end
  arg = arg + 5 + tonumber(ARGV[arg + 4])
  local channels = tonumber(ARGV[arg])
  arg = arg + 1 + (channels > 0 and channels * per_channel + 1 or 0)
end

local function deliver(lane, reference)
  local waiting, uid = KEYS[9 + lane], ARGV[10 + lane]
  redis.call('XADD', waiting, '*', 'e', reference)
  lengths[lane] = lengths[lane] + 1
  -- A lane that is read to its end says so in `hungry`; only then, or if it was empty, must somebody be told.
  if redis.call('SREM', hungry, uid) == 1 or lengths[lane] == 1 then
    redis.call('ZADD', ring, now, uid)
    redis.call('PUBLISH', wake, uid)
  end
  return uid
end

-- Entries of the index say how much was stored up to them, so that any part of it says how much it spans.
local total = bytes > 0 and redis.call('INCRBY', stored, bytes) - bytes
for _, event in ipairs(batch) do
  local at = event.at
  total = total + event.bytes
  local matches = tonumber(ARGV[at + 2])
  local fields = { 'm', ARGV[at], 'b', ARGV[at + 1], 'n', matches }
  local uids = {}
  for match = 1, matches do
    uids[match] = deliver(tonumber(ARGV[at + 2 + match]), event.reference)
  end
  if matches > 0 then
    fields[7], fields[8] = 's', table.concat(uids, ' ')
  end
  if event.digest ~= '' then
    fields[#fields + 1], fields[#fields + 2] = 'h', event.digest .. matches
    redis.call('HSET', known_ids, event.ref, at_second .. event.digest .. matches)
    redis.call('XADD', order, '*', 'e', at_second .. event.ref)
  end
  redis.call('HSET', event.key, unpack(fields))
  redis.call('XADD', index, '*', 'e', event.reference, 'b', total)
  if matches == 0 then
    redis.call('EXPIRE', event.key, retention)
  end
  local channels = tonumber(ARGV[at + 3 + matches])
  if channels > 0 and relay ~= '' then
    local names = { unpack(ARGV, at + 5 + matches, at + 4 + matches + channels) }
    redis.call('XADD', outbox, '*', 'e', event.reference, 'p', ARGV[at + 4 + matches], 'c', table.concat(names, ' '))
    unrelayed = unrelayed + 1
    if unrelayed == 1 then
      redis.call('PUBLISH', relay, '')
    end
  else
    for channel = 1, channels do
      local to = at + 1 + matches + 4 * channel
      publish_on('PUBLISH', ARGV[to], ARGV[to + 1], ARGV[at + 4 + matches], ARGV[to + 2], ARGV[to + 3], ARGV[10], ARGV[9])
    end
  end
end
redis.call('XTRIM', index, 'MINID', '~', string.format('%.0f-0', math.max(now - retention * 1000, 0)))
return verdicts
