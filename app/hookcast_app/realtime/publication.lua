-- Goes before scripts that publish on channels. Numbers a publication, stores it and publishes it; without a history it
-- is published alone. What is published is the publication, behind its epoch and offset where it has them.
-- A history that goes on where none is known begins a new epoch: what there was before is of another.
local function publish_on(verb, prefix, name, payload, size, ttl, keep, epoch)
  if size == '0' then
    redis.call(verb, prefix .. 'pub:' .. name, payload)
    return { 0, '' }
  end
  local position, history = prefix .. 'position:' .. name, prefix .. 'history:' .. name
  local offset = redis.call('HINCRBY', position, 'o', 1)
  if redis.call('HSETNX', position, 'e', epoch) == 1 then
    redis.call('DEL', history)
  else
    epoch = redis.call('HGET', position, 'e')
  end
  local number = string.format('%.0f', offset)
  payload = '{"offset":' .. number .. ',' .. string.sub(payload, 2)
  redis.call('XADD', history, 'MAXLEN', size, number, 'p', payload)
  redis.call('EXPIRE', history, ttl)
  redis.call('EXPIRE', position, keep)
  redis.call(verb, prefix .. 'pub:' .. name, epoch .. ':' .. number .. ':' .. payload)
  return { offset, epoch }
end
