-- Moves deliveries out of the place in which they ended or wait for a later attempt: back into their lane, or to what is
-- discarded. Each is moved only if it is as the caller saw it. With a task, all of it happens only if the task is where
-- the caller left it, so that each of its steps is made once.
--
-- KEYS  mark, ring, hungry, buried, tasks, task, then for each delivery: its event, then its lane's waiting, later,
--       delivered, dead, discarded
-- ARGV  wake channel, retention s, dead letters' retention s, task's step as it is or '', its next one, id of the task,
--       for how many ms it is left alone, how many deliveries were looked at, number of deliveries, then for each:
--       UID, reference, value as it is, the place it is in, its entry there or '', where to (waiting or discarded), record
-- Returns 1 for each that was moved, else 0; or an error that begins with HOOKCASTSTEP if the task is elsewhere.
local mark, ring, hungry, buried, tasks, task = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local wake, retention, dead_retention = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local step, following, id, left_alone, looked = ARGV[4], ARGV[5], ARGV[6], tonumber(ARGV[7]), tonumber(ARGV[8])
local count = tonumber(ARGV[9])
local seen_again = 3600

if redis.call('EXISTS', mark) == 1 then
  return redis.error_reply('HOOKCASTMOVED the data of this Redis are moved to another, or are not all here yet')
end
if step ~= '' and redis.call('HGET', task, 'step') ~= step then
  return redis.error_reply('HOOKCASTSTEP another process is at this task')
end
redis.call('ZCARD', ring)
redis.call('SCARD', hungry)
redis.call('SCARD', buried)
redis.call('ZCARD', tasks)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function moved(number)
  local key, arg = 7 + 6 * (number - 1), 10 + 7 * (number - 1)
  local event, waiting, later = KEYS[key], KEYS[key + 1], KEYS[key + 2]
  local places = { delivered = KEYS[key + 3], dead = KEYS[key + 4], discarded = KEYS[key + 5] }
  local uid, reference, value, place = ARGV[arg], ARGV[arg + 1], ARGV[arg + 2], ARGV[arg + 3]
  local entry, to, record = ARGV[arg + 4], ARGV[arg + 5], ARGV[arg + 6]
  local field = 'd:' .. uid
  if (redis.call('HGET', event, field) or '') ~= value then
    return 0
  end
  local open = tonumber(redis.call('HGET', event, 'n'))
  local was_open = place == 'later'
  local is_waiting = false
  if not was_open and entry == '' then
    -- It was cancelled, and nobody has come to it yet: it is where it was.
    if to == 'waiting' and redis.call('HDEL', event, 'c:' .. uid) == 1 then
      redis.call('ZADD', ring, 'LT', now, uid)
      redis.call('PUBLISH', wake, uid)
      return 1
    end
    return 0
  end
  if was_open then
    -- One that is not there keeps its place in the stream: FIFO.
    is_waiting = redis.call('ZREM', later, reference) == 0
  else
    redis.call('XDEL', places[place], entry)
  end
  if place == 'dead' then
    redis.call('HINCRBY', event, 'x', -1)
    if redis.call('XLEN', places.dead) == 0 then
      redis.call('SREM', buried, uid)
    end
  end
  if to == 'discarded' then
    local at = redis.call('XADD', places.discarded, '*', 'e', reference)
    redis.call('HSET', event, field, record .. '\n' .. at)
    open = was_open and redis.call('HINCRBY', event, 'n', -1) or open
    if open <= 0 then
      local found = redis.call('HMGET', event, 'x', 'o')
      redis.call('EXPIRE', event, tonumber(found[1] or 0) > 0 and dead_retention or found[2] or retention)
    end
    return 1
  end
  redis.call('HDEL', event, 'c:' .. uid)
  redis.call('HSET', event, field, record)
  if not was_open then
    redis.call('HINCRBY', event, 'n', 1)
    redis.call('PERSIST', event)
    if redis.call('HEXISTS', event, 'o') == 1 then
      redis.call('HSET', event, 'o', math.min(retention, seen_again)) -- whoever asked wants to see what comes of it
    end
  end
  if not is_waiting then
    redis.call('XADD', waiting, '*', 'e', reference)
  end
  redis.call('SREM', hungry, uid)
  redis.call('ZADD', ring, 'LT', now, uid)
  redis.call('PUBLISH', wake, is_waiting and uid .. ' ' .. reference or uid)
  return 1
end

local answers, sum = {}, 0
for number = 1, count do
  answers[number] = moved(number)
  sum = sum + answers[number]
end
if step ~= '' then
  redis.call('HSET', task, 'step', following)
  redis.call('HINCRBY', task, 'looked', looked)
  redis.call('HINCRBY', task, 'moved', sum)
  if following == 'done' then
    redis.call('ZREM', tasks, id)
    redis.call('EXPIRE', task, retention)
  else
    redis.call('ZADD', tasks, now + left_alone, id)
  end
end
return answers
