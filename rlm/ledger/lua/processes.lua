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

--- count_restarts(restarts; keep_ms, marks: json)
-- Counts workers that ended unexpectedly, each once, even if it is reported repeatedly.
-- restarts  the number of all of them
-- keep_ms   how long a mark stays; longer than a report may be repeated
-- marks     the keys of the marks of these workers
-- Returns   how many of them were not counted before
-- Atomic because the reply may be lost; the supervisor then reports again, which must not count twice.
local counted = 0
for _, mark in ipairs(marks) do
  if redis.call('SET', mark, '1', 'NX', 'PX', keep_ms) then counted = counted + 1 end
end
redis.call('INCRBY', restarts, counted)
return counted
