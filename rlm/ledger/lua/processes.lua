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
-- Counts workers that ended unexpectedly, each once, even if it is reported repeatedly.
-- KEYS[1]  restarts  the number of all of them
-- KEYS[2..] restarted  a mark for each of the workers
-- ARGV[1]  keep_ms   how long a mark stays; longer than a report may be repeated
-- Returns  how many of them were not counted before
-- Atomic because the reply may be lost; the supervisor then reports again, which must not count twice.
local counted = 0
for index = 2, #KEYS do
  if redis.call('SET', KEYS[index], '1', 'NX', 'PX', ARGV[1]) then counted = counted + 1 end
end
redis.call('INCRBY', KEYS[1], counted)
return counted
