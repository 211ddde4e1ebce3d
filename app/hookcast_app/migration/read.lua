-- Reads keys whole, and large ones piece by piece. Writes nothing.
-- KEYS the keys; ARGV bytes after which no further key is read, items of a piece, then for each key where its piece
-- begins ('' at its start).
-- Returns for as many of the keys as were read: kind, ms to live (-1 for ever), where the next piece begins ('' if this
-- is the last), content, and a stream's last id if the entry is gone.
local most, items = tonumber(ARGV[1]), tonumber(ARGV[2])
local size

local function weigh(content)
  for _, each in ipairs(content) do
    if type(each) == 'table' then
      weigh(each)
    else
      size = size + #each
    end
  end
end

local function sorted_set(key, start)
  local from = tonumber(start) or 0
  local content = redis.call('ZRANGE', key, from, from + items - 1, 'WITHSCORES')
  local following = from + items < redis.call('ZCARD', key) and string.format('%.0f', from + items) or ''
  return content, following, ''
end

local function stream(key, start)
  local content = redis.call('XRANGE', key, start == '' and '-' or '(' .. start, '+', 'COUNT', items)
  local newest = redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)[1]
  local ended = #content > 0 and content[#content][1] or start
  if newest and newest[1] ~= ended then
    return content, ended, ''
  end
  local info, about = redis.call('XINFO', 'STREAM', key), {}
  for number = 1, #info, 2 do
    about[info[number]] = info[number + 1]
  end
  local last = about['last-generated-id']
  return content, '', last ~= ended and last or '', about['groups'] > 0
end

local function read(key, start)
  local kind = redis.call('TYPE', key).ok
  local content, following, last, has_groups = {}, '', '', false
  if kind == 'string' then
    content = { redis.call('GET', key) }
  elseif kind == 'hash' then
    content = redis.call('HGETALL', key)
  elseif kind == 'set' then
    content = redis.call('SMEMBERS', key)
  elseif kind == 'zset' then
    content, following, last = sorted_set(key, start)
  elseif kind == 'stream' then
    content, following, last, has_groups = stream(key, start)
  end
  weigh(content)
  return { has_groups and 'stream with consumer groups' or kind, redis.call('PTTL', key), following, content, last }
end

size = 0
local found = {}
for number, key in ipairs(KEYS) do
  found[number] = read(key, ARGV[2 + number])
  if size >= most then
    break
  end
end
return found
