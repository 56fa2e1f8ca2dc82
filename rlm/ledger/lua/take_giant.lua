-- Makes a dead letter of a staged item that was set aside because it is too large to be read.
-- KEYS[1]  lease   hash with the fencing token
-- KEYS[2]  run     hash of the open run
-- KEYS[3]  tally   hash of the run's counts
-- KEYS[4]  aside   list of the names of what has been set aside
-- KEYS[5]  giant   the item, a string
-- KEYS[6]  failed  the list of dead letters
-- ARGV[1]  token
-- ARGV[2]  run id
-- ARGV[3]  name    of KEYS[5]
-- ARGV[4]  letter  the dead letter, JSON
-- Returns  1 done, 0 somebody else has and nothing was changed
-- Atomic because the item and its letter must never exist both, nor neither.
local lease, run, tally, aside, giant, failed = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local token, run_id, name, letter = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
-- include fence
-- include fence_run
if redis.call('LREM', aside, -1, name) == 0 then return 0 end
redis.call('UNLINK', giant)
redis.call('LPUSH', failed, letter)
redis.call('HINCRBY', tally, 'invalid', 1)
return 1
