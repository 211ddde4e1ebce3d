-- Takes events out of the index for want of room. One whose deliveries have ended, and none of them as a dead letter, is
-- deleted; any other stays and is kept no longer than it must be: it goes as soon as its last delivery has ended.
-- Several processes may do this at once: an event is touched only by the one that takes it out of the index.
--
-- KEYS  mark, index, then for each entry, the oldest first: its event
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

-- Entries go from the front only, so that those of ours that are still there begin with the first that is there now.
local function moment(id)
  local ms, number = string.match(id, '^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(number)
end

local first = redis.call('XRANGE', index, '-', '+', 'COUNT', 1)[1]
local at = #ARGV + 1
if first then
  local first_ms, first_number = moment(first[1])
  at = 2
  while at <= #ARGV do
    local ms, number = moment(ARGV[at])
    if ms > first_ms or (ms == first_ms and number >= first_number) then
      break
    end
    at = at + 1
  end
end

local lanes, ended = {}, {}
for number = at, #ARGV do
  local event = KEYS[number + 1]
  local found = redis.call('HMGET', event, 'n', 'x', 's')
  local open, dead = tonumber(found[1] or nil), tonumber(found[2] or 0)
  if open and open <= 0 and dead == 0 then
    ended[#ended + 1] = event
    for uid in string.gmatch(found[3] or '', '%S+') do
      lanes[uid] = true
    end
  elseif open then
    redis.call('HSET', event, 'o', 0)
  end
end
if #ended > 0 then
  redis.call('UNLINK', unpack(ended))
end
if at <= #ARGV then
  local ms, number = moment(ARGV[#ARGV])
  redis.call('XTRIM', index, 'MINID', string.format('%.0f-%.0f', ms, number + 1))
end
local uids = {}
for uid in pairs(lanes) do
  uids[#uids + 1] = uid
end
return uids
