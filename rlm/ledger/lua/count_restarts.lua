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
