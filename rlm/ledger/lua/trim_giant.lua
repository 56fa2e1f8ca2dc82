-- Removes an entry of the dead letters that was set aside because it is too large to be read, and is archived.
-- KEYS[1]  lease  hash with the fencing token
-- KEYS[2]  aside  list of the names of what has been set aside
-- KEYS[3]  giant  the entry, a string
-- ARGV[1]  token
-- ARGV[2]  name   of KEYS[3]
-- Returns  1 done, 0 somebody else has and nothing was changed
-- Atomic because a conductor that was deposed must not remove what its successor has not archived.
local lease, aside, giant = KEYS[1], KEYS[2], KEYS[3]
local token, name = ARGV[1], ARGV[2]
-- include fence
if redis.call('LREM', aside, -1, name) == 0 then return 0 end
redis.call('UNLINK', giant)
return 1
