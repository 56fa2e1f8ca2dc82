--- admit_workers(workers; known: number, places: number, ttl_ms, others: json, newcomers: json)
-- Enters as many new workers in the register as there are places for.
-- workers    set with the ids of all workers that may be alive
-- known      how many ids the set had when `others` was read
-- places     the number of places, without those that the supervisor's own workers take
-- ttl_ms     how long an entry lives
-- others     {entry, least_ms} of each worker that takes a place while it is heard from: the key of its entry, and the
--            least time that this must have to live; with less, its worker takes no place
-- newcomers  {id, entry, announcement} of each new worker: the key of its entry, and its content
-- Returns    how many were entered, from the first on; -1 if the set has changed and must be read again
-- Atomic because supervisors of several hosts may ask at the same moment, and must not exceed the places together.
if redis.call('SCARD', workers) ~= known then return -1 end
for _, one in ipairs(others) do
  local left = redis.call('PTTL', one.entry)  -- -1: another program wrote it; -2: it does not exist
  if left == -1 or left >= one.least_ms then places = places - 1 end
end
local entered = 0
for _, one in ipairs(newcomers) do
  if entered >= places then break end
  redis.call('SADD', workers, one.id)
  redis.call('SET', one.entry, one.announcement, 'PX', ttl_ms)
  entered = entered + 1
end
return entered
