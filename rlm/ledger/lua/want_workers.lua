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
