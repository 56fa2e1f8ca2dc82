-- Removes the oldest run records, which are archived.
-- KEYS[1]  lease    hash with the fencing token
-- KEYS[2]  records  hash: run id -> record, JSON
-- KEYS[3]  runs     list of run ids, newest first
-- ARGV[1]  token
-- ARGV[2..] run ids, the oldest first
-- Returns  how many were removed; fewer than asked if the oldest is another by now
-- Atomic because a deposed conductor, or a repeated call, must not remove what the archive does not have.
local lease, records, runs = KEYS[1], KEYS[2], KEYS[3]
local token = ARGV[1]
-- include fence
local removed = 0
for index = 2, #ARGV do
  if redis.call('LINDEX', runs, -1) ~= ARGV[index] then break end
  redis.call('RPOP', runs)
  redis.call('HDEL', records, ARGV[index])
  removed = removed + 1
end
return removed
