-- Moves the open run to its next state and writes what is known of it by then.
-- KEYS[1]  lease    hash with the fencing token
-- KEYS[2]  current  id of the open run
-- KEYS[3]  run      its hash
-- ARGV[1]  token
-- ARGV[2]  run id
-- ARGV[3]  state    the state to move to
-- ARGV[4]  before   the states that may move there, each with a space behind it
-- ARGV[5..] fields and values to write
-- Returns  1 moved, or in that state already; 0 that run is no longer open; the state it is in if it may not move
-- Atomic because a conductor that lost its lease must not move a run that another one conducts.
--          And because between looking at the state and moving it somebody else may.
local lease, current, run = KEYS[1], KEYS[2], KEYS[3]
local token, run_id, state, before = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
-- include fence
if redis.call('GET', current) ~= run_id then return 0 end
local from = redis.call('HGET', run, 'state')  -- none: what was known of the run is lost, and it is written anew
if from and from ~= state and not string.find(before, from .. ' ', 1, true) then return from end
redis.call('HSET', run, 'state', state)
for index = 5, #ARGV, 2 do
  redis.call('HSET', run, ARGV[index], ARGV[index + 1])
end
return 1
