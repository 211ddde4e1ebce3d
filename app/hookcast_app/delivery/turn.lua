-- One turn of many lanes: hold the lease, settle what was attempted, make due what waited, fetch what comes next.
-- Everything is read first: a key of a wrong type raises before anything is written.
--
-- KEYS  ring, hungry, disabled, failing, buried, mark, switches, then for each lane: lease, waiting, later, delivered, dead,
--       discarded, and the event of each of its results
-- ARGV  token, lease ms, retention s, dead letters' retention s, wake channel, number of lanes, how often the caller knows
--       the layout to have changed (if it is wrong, nothing is fetched), then for each lane:
--       UID, mode, park ms, read after (a stream id or '-'), how many to fetch, horizon ms,
--       what to remember of its failing endpoint ('' nothing new, '-' to forget it), read until ('+' or '(' and an id),
--       number of results,
--       and for each result: stream id, reference, outcome, delay ms, record
--       mode: take (lease it if free), hold (it must be ours), release (settle, then give it back),
--       park (free and not to be looked at for park ms)
--       outcome: delivered, dead, discarded, later (after delay), held (keeps its place), missing (its event is gone)
--       horizon: what is due within so many ms is made due now
-- Returns for each lane: {1, due ms or -1, disabled or '', failing or '', deliveries waiting,
--       [stream id, reference, …]}, or {0} if another holds the lease.
local token, lease_ms = ARGV[1], tonumber(ARGV[2])
local retention, dead_retention, wake = tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]
local ring, hungry, disabled, failing, buried = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- See redis/moving.py: while it is drained, attempts that are under way are settled and no lane is leased any more.
local mark = string.match(redis.call('GET', KEYS[6]) or '', '^%a+')
if mark and mark ~= 'draining' then
  return redis.error_reply('HOOKCASTMOVED the data of this Redis are moved to another, or are not all here yet')
end
-- See delivery/gates.py: who knows of fewer partitions does not know either how far lanes in order may go.
local is_stale = string.match(redis.call('GET', KEYS[7]) or '0', '^%d+') ~= ARGV[7]
redis.call('ZCARD', ring)
redis.call('SCARD', hungry)
redis.call('HLEN', disabled)
redis.call('HLEN', failing)
redis.call('SCARD', buried)

-- What is known of the events at hand: how many of their deliveries are open, how many died, and for how long it is kept
-- once it has ended. Events are read once and written with these, so that several deliveries of one event may be settled
-- in one turn.
local events = {}

local function event_of(key)
  local event = events[key]
  if not event then
    local found = redis.call('HMGET', key, 'n', 'x', 'o')
    event = { key = key, open = tonumber(found[1] or nil), dead = tonumber(found[2] or 0), kept = found[3] or retention }
    events[key] = event
  end
  return event
end

local function read(key, arg)
  local lane = { lease = KEYS[key], waiting = KEYS[key + 1], later = KEYS[key + 2], uid = ARGV[arg], mode = ARGV[arg + 1],
    park = tonumber(ARGV[arg + 2]), after = ARGV[arg + 3], want = tonumber(ARGV[arg + 4]),
    horizon = tonumber(ARGV[arg + 5]), failing = ARGV[arg + 6], last = ARGV[arg + 7], results = {},
    places = { delivered = KEYS[key + 3], dead = KEYS[key + 4], discarded = KEYS[key + 5] } }
  lane.holder = redis.call('GET', lane.lease)
  redis.call('ZCARD', lane.later)
  redis.call('XLEN', lane.waiting)
  for _, place in pairs(lane.places) do
    redis.call('XLEN', place)
  end
  local count = tonumber(ARGV[arg + 8])
  for number = 1, count do
    local at = arg + 4 + 5 * number
    lane.results[number] = { event = event_of(KEYS[key + 5 + number]), entry = ARGV[at], reference = ARGV[at + 1],
      outcome = ARGV[at + 2], delay = tonumber(ARGV[at + 3]), record = ARGV[at + 4] }
  end
  return lane, key + 6 + count, arg + 9 + 5 * count
end

local function settle(lane, result)
  local event = result.event
  local outcome = result.outcome
  if (outcome == 'held' or outcome == 'later') and redis.call('HEXISTS', event.key, 'c:' .. lane.uid) == 1 then
    outcome = 'discarded'
  end
  if outcome == 'held' then
    -- Unless it was settled otherwise before, by another holder of this token.
    if event.open and redis.call('XRANGE', lane.waiting, result.entry, result.entry)[1] then
      redis.call('HSET', event.key, lane.field, result.record)
    end
    return
  end
  -- Settled before, by a call whose answer was lost: then it is in its place already.
  if redis.call('XDEL', lane.waiting, result.entry) == 0 or not event.open then
    return
  end
  if outcome == 'later' then
    redis.call('HSET', event.key, lane.field, result.record)
    redis.call('ZADD', lane.later, now + result.delay, result.reference)
    return
  end
  event.open = event.open - 1
  if event.kept == '0' and event.open <= 0 and event.dead == 0 and outcome ~= 'dead' then
    redis.call('UNLINK', event.key) -- there was no room for it any more: see retire.lua
    event.open = nil
    return
  end
  -- Where it is in its place stands with its record: it can be taken out of there again.
  local record = result.record .. '\n' .. redis.call('XADD', lane.places[outcome], '*', 'e', result.reference)
  lane.settled[outcome] = true
  if outcome == 'dead' then
    event.dead = event.dead + 1
    redis.call('HSET', event.key, lane.field, record, 'n', event.open, 'x', event.dead)
    redis.call('SADD', buried, lane.uid)
  else
    redis.call('HSET', event.key, lane.field, record, 'n', event.open)
  end
  if event.open <= 0 then
    redis.call('EXPIRE', event.key, event.dead > 0 and dead_retention or event.kept)
  end
end

-- The lists of settled deliveries are cut where their events have expired.
local function trim(lane)
  for place in pairs(lane.settled) do
    local kept = place == 'dead' and dead_retention or retention
    redis.call('XTRIM', lane.places[place], 'MINID', '~', string.format('%.0f-0', math.max(now - kept * 1000, 0)))
  end
end

local function make_due(lane)
  local due = redis.call('ZRANGEBYSCORE', lane.later, '-inf', string.format('%.0f', now + lane.horizon), 'LIMIT', 0, 500)
  for _, reference in ipairs(due) do
    redis.call('XADD', lane.waiting, '*', 'e', reference)
    redis.call('ZREM', lane.later, reference)
  end
end

local function next_due(lane)
  local first = redis.call('ZRANGE', lane.later, 0, 0, 'WITHSCORES')
  return first[2] and math.max(tonumber(first[2]) - now, 0) or -1
end

local function fetch(lane)
  if lane.want == 0 or is_stale then
    return {}
  end
  local after = lane.after == '-' and '-' or '(' .. lane.after
  local entries = redis.call('XRANGE', lane.waiting, after, lane.last, 'COUNT', lane.want)
  if #entries < lane.want then
    redis.call('SADD', hungry, lane.uid)
  end
  local flat = {}
  for _, entry in ipairs(entries) do
    flat[#flat + 1] = entry[1]
    flat[#flat + 1] = entry[2][2]
  end
  return flat
end

local function give_back(lane)
  redis.call('DEL', lane.lease)
  local due = next_due(lane)
  local left = redis.call('XLEN', lane.waiting)
  if left == 0 then
    redis.call('SADD', hungry, lane.uid)
  end
  if left > 0 then
    redis.call('SREM', hungry, lane.uid)
    redis.call('ZADD', ring, now + lane.park, lane.uid)
    if lane.park == 0 then
      redis.call('PUBLISH', wake, lane.uid)
    end
  elseif due >= 0 then
    redis.call('ZADD', ring, now + math.max(due, lane.park), lane.uid)
  else
    redis.call('ZREM', ring, lane.uid)
  end
end

local function turn(lane)
  local ours = lane.holder == token
  local free = not lane.holder
  if lane.mode == 'park' then
    if free or ours then
      give_back(lane)
    end
    return { 1, -1, '', '', 0, {} }
  end
  if not ours and not (free and lane.mode == 'take') then
    if not free then
      redis.call('ZADD', ring, now + redis.call('PTTL', lane.lease), lane.uid)
    end
    return { 0 }
  end
  if free and mark then
    redis.call('ZADD', ring, now + 1000, lane.uid)
    return { 0 }
  end
  lane.field, lane.settled = 'd:' .. lane.uid, {}
  for _, result in ipairs(lane.results) do
    settle(lane, result)
  end
  trim(lane)
  if lane.failing == '-' then
    redis.call('HDEL', failing, lane.uid)
  elseif lane.failing ~= '' then
    redis.call('HSET', failing, lane.uid, lane.failing)
  end
  if lane.mode == 'release' then
    give_back(lane)
    return { 1, -1, '', '', 0, {} }
  end
  redis.call('SET', lane.lease, token, 'PX', lease_ms)
  redis.call('ZADD', ring, now + lease_ms, lane.uid)
  make_due(lane)
  local entries = fetch(lane)
  local backlog = redis.call('XLEN', lane.waiting)
  return { 1, next_due(lane), redis.call('HGET', disabled, lane.uid) or '', redis.call('HGET', failing, lane.uid) or '',
    backlog, entries }
end

local lanes = {}
local key, arg = 8, 8
for number = 1, tonumber(ARGV[6]) do
  lanes[number], key, arg = read(key, arg)
end
-- A Redis that is out of memory refuses a script at its first write if that could need memory; this one cannot, and is
-- refused nothing after it. What is settled makes room in time, so a turn must not wait for room.
redis.call('SREM', hungry, '')
local answers = {}
for number, lane in ipairs(lanes) do
  answers[number] = turn(lane)
end
return answers
