--- admit_workers
-- Enters as many new workers in the register as there are places for.
-- KEYS[1]   workers  set with the ids of all workers that may be alive
-- KEYS[2..]          the entries of workers that take a place while they are heard from, then those of the new workers
-- ARGV[1]   known    how many ids the set had when it was read for KEYS
-- ARGV[2]   places   the number of places, without those that the supervisor's own workers take
-- ARGV[3]   others   how many of KEYS are entries of others
-- ARGV[4]   ttl_ms   how long an entry lives
-- ARGV[5..]          for each entry of others the least time it must have to live, milliseconds; with less, its worker
--                    takes no place; then id and entry of each new worker
-- Returns  how many were entered, from the first on; -1 if the set has changed and must be read again
-- Atomic because supervisors of several hosts may ask at the same moment, and must not exceed the places together.
local workers = KEYS[1]
local known, places, others, ttl_ms = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
if redis.call('SCARD', workers) ~= known then return -1 end
for index = 2, others + 1 do
  local left = redis.call('PTTL', KEYS[index])  -- -1: another program wrote it; -2: it does not exist
  if left == -1 or left >= tonumber(ARGV[3 + index]) then places = places - 1 end
end
local entered = 0
for index = others + 2, #KEYS do
  if entered >= places then break end
  local id = 5 + others + 2 * entered
  redis.call('SADD', workers, ARGV[id])
  redis.call('SET', KEYS[index], ARGV[id + 1], 'PX', ttl_ms)
  entered = entered + 1
end
return entered
