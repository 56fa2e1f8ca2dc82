--- want_workers
-- Publishes how many workers the conductor wants, over all hosts.
-- KEYS[1]  lease   hash with the fencing token
-- KEYS[2]  wanted  number of workers wanted
-- ARGV[1]  token
-- ARGV[2]  workers
-- Returns  1
-- Atomic because a conductor that lost its lease must not scale the run of another.
local lease, wanted = KEYS[1], KEYS[2]
local token, workers = ARGV[1], ARGV[2]
-- include fence
redis.call('SET', wanted, workers)
return 1

--- count_restarts
-- Counts workers that ended unexpectedly, each once, however often one is reported.
-- KEYS[1]  restarts  their number, ever
-- KEYS[2..] restarted  a mark for each of the workers
-- ARGV[1]  keep_ms   how long a mark stays: longer than anybody tells again
-- Returns  how many are counted now that were not before
-- Atomic because its reply may be lost: the supervisor then tells again, and must not have counted already.
local counted = 0
for index = 2, #KEYS do
  if redis.call('SET', KEYS[index], '1', 'NX', 'PX', ARGV[1]) then counted = counted + 1 end
end
redis.call('INCRBY', KEYS[1], counted)
return counted
