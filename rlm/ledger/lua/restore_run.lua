-- Makes a run the open one again of which there is everything but the word that it is open.
-- KEYS[1]  lease    hash with the fencing token
-- KEYS[2]  current  id of the open run
-- ARGV[1]  token
-- ARGV[2]  run id
-- Returns  1 restored, 0 a run is open
-- Atomic because no two runs may be open.
local lease, current = KEYS[1], KEYS[2]
local token, run_id = ARGV[1], ARGV[2]
-- include fence
return redis.call('SETNX', current, run_id)
