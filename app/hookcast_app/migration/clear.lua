-- Deletes keys of a Redis that is being filled. KEYS the mark, then the keys; ARGV the mark's value.
-- Returns 1, or 0 if the mark is another: another run has taken over, or it was opened.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
for number = 2, #KEYS do
  redis.call('UNLINK', KEYS[number])
end
return 1
