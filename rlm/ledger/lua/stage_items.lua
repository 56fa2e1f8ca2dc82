-- Moves what is on the audit list at this moment to the staging list, once a run.
-- KEYS[1]  lease    hash with the fencing token
-- KEYS[2]  run      hash of the open run
-- KEYS[3]  events   the audit list
-- KEYS[4]  staging  the staging list
-- ARGV[1]  token    the caller's fencing token
-- ARGV[2]  run id
-- Returns  how many items are staged now; -1 when earlier items are still staged and must be drained first
-- Atomic because the audit system pushes meanwhile, and a repeated call must not take a second helping.
local lease, run, events, staging = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local token, run_id = ARGV[1], ARGV[2]
-- include fence
-- include fence_run
local staged = redis.call('LLEN', staging)
if redis.call('HGET', run, 'staged') then return staged end
if staged > 0 then return -1 end
if redis.call('EXISTS', events) == 1 then redis.call('RENAME', events, staging) end
redis.call('HSET', run, 'staged', '1')
return redis.call('LLEN', staging)
