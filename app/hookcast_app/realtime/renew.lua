-- Begins a new epoch of a channel, whose numbering has gone back: other publications have numbers that were known.
-- KEYS  position
-- ARGV  the epoch that it is of, unless somebody else was faster, and a new one
if redis.call('HGET', KEYS[1], 'e') == ARGV[1] then
  redis.call('HSET', KEYS[1], 'e', ARGV[2])
end
return 0
