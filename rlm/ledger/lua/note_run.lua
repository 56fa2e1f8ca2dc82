-- Writes what is known of the open run, whatever state it is in.
-- KEYS[1]  lease    hash with the fencing token
-- KEYS[2]  current  id of the open run
-- KEYS[3]  run      its hash
-- ARGV[1]  token
-- ARGV[2]  run id
-- ARGV[3..] fields and values to write
-- Returns  1 written, 0 that run is no longer open
-- Atomic because a conductor that lost its lease must not write of a run that another one conducts.
local lease, current, run = KEYS[1], KEYS[2], KEYS[3]
local token, run_id = ARGV[1], ARGV[2]
-- include fence
if redis.call('GET', current) ~= run_id then return 0 end
for index = 3, #ARGV, 2 do
  redis.call('HSET', run, ARGV[index], ARGV[index + 1])
end
return 1
