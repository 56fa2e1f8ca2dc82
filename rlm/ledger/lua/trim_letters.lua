-- Removes the oldest dead letters, which are archived; their events stay known as failed.
-- KEYS[1]  lease   hash with the fencing token
-- KEYS[2]  failed  the list of dead letters, newest first
-- ARGV[1]  token
-- ARGV[2..] the SHA-1 of each letter as it was read, the oldest first
-- Returns  how many were removed; fewer than asked if the oldest is another by now
-- Atomic because a letter retried or dropped meanwhile must not have another removed that the archive does not have.
local lease, failed = KEYS[1], KEYS[2]
local token = ARGV[1]
-- include fence
local removed = 0
for index = 2, #ARGV do
  local letter = redis.call('LINDEX', failed, -1)
  if not letter or redis.sha1hex(letter) ~= ARGV[index] then break end
  redis.call('RPOP', failed)
  removed = removed + 1
end
return removed
