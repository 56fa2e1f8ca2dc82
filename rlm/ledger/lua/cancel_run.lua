-- Asks the conductor of the open run to end it now.
-- KEYS[1]  current  id of the open run
-- KEYS[2]  run      its hash
-- ARGV[1]  run id
-- Returns  the state it was in, or an empty string when that run is not open
-- Atomic because a run that is finishing ends as it would have, and is not marked.
local current, run = KEYS[1], KEYS[2]
local run_id = ARGV[1]
if redis.call('GET', current) ~= run_id then return '' end
local state = redis.call('HGET', run, 'state')
if state ~= 'finishing' then redis.call('HSET', run, 'cancelled', '1') end
return state
