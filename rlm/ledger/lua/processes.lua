--- want_workers(lease, wanted; token, workers)
-- Publishes how many workers the conductor wants, over all hosts.
-- lease    hash with the fencing token
-- wanted   number of workers wanted
-- token    the caller's fencing token
-- workers  the new number
-- Returns  1
-- Atomic because a conductor that lost its lease must not scale the run of another.
-- include base
if fenced(lease, token) then return FENCED end
redis.call('SET', wanted, workers)
return 1
