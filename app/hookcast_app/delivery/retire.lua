-- Takes events out of the index for want of room. One whose deliveries have ended, and none of them as a dead letter, is
-- deleted; any other stays and is kept no longer than it must be: it goes as soon as its last delivery has ended.
-- Several processes may do this at once: an event is touched only by the one that takes it out of the index.
--
-- KEYS  mark, index, then for each entry: its event
-- ARGV  retention s, then for each entry: its id
-- Returns the UIDs of the lanes that had deliveries of what was deleted.
if redis.call('EXISTS', KEYS[1]) == 1 then
  return redis.error_reply('HOOKCASTMOVED the data of this Redis are moved to another, or are not all here yet')
end
local index, retention = KEYS[2], tonumber(ARGV[1])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- Without what is too old, whose events expire by themselves: their ids may be used again, so that one event would have
-- two entries. It also needs no memory, and so lets a full Redis take the rest (see turn.lua).
redis.call('XTRIM', index, 'MINID', string.format('%.0f-0', math.max(now - retention * 1000, 0)))

local lanes = {}
for number = 2, #ARGV do
  local event = KEYS[number + 1]
  if redis.call('XDEL', index, ARGV[number]) == 1 then
    local found = redis.call('HMGET', event, 'n', 'x', 's')
    local open, dead = tonumber(found[1] or nil), tonumber(found[2] or 0)
    if open and open <= 0 and dead == 0 then
      redis.call('UNLINK', event)
      for uid in string.gmatch(found[3] or '', '%S+') do
        lanes[uid] = true
      end
    elseif open then
      redis.call('HSET', event, 'o', 0)
    end
  end
end
local uids = {}
for uid in pairs(lanes) do
  uids[#uids + 1] = uid
end
return uids
