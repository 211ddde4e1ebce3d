-- What changed since the version that the caller knows. Writes nothing.
-- KEYS  version, subscriptions, secrets, changes
-- ARGV  version and token of the change that the caller knows (-1 if none), most values
-- Returns version, token of the change that made it ('' if it is not remembered), and triples: which of the two, field,
-- value ('' if it is deleted). Instead of triples there is 0 if that cannot be told, or is too much.
local version = tonumber(redis.call('GET', KEYS[1]) or '0')
local known = tonumber(ARGV[1])

local function change(number)
  local remembered = redis.call('HGET', KEYS[4], number)
  return remembered and cjson.decode(remembered)
end

local newest = change(version)
local token = newest and newest[1] or ''
local before = change(known)
if known < 0 or known > version or ARGV[2] ~= (before and before[1] or '') then
  return { version, token, 0 }
end
local kept = { subscriptions = KEYS[2], secrets = KEYS[3] }
local seen, count, news = {}, 0, {}
for number = known + 1, version do
  local next = change(number)
  if not next then
    return { version, token, 0 }
  end
  for at = 2, #next, 2 do
    local what, field = next[at], next[at + 1]
    local name = what .. ' ' .. field
    if not seen[name] then
      seen[name] = true
      count = count + 1
      if count > tonumber(ARGV[3]) then
        return { version, token, 0 }
      end
      news[#news + 1] = what
      news[#news + 1] = field
      news[#news + 1] = redis.call('HGET', kept[what], field) or ''
    end
  end
end
return { version, token, news }
