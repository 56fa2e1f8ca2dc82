-- Removes an event for good that is left over, and forgets it.
-- KEYS[1]  current  id of the open run
-- KEYS[2]  event    hash of the event
-- KEYS[3]  pending  zset of its type
-- KEYS[4]  runs     list of ids of finished runs, newest first
-- KEYS[5]  dropped  hash: which run they were left over by, and `events:TYPE`, how many of them were dropped
-- ARGV[1]  event id
-- ARGV[2]  type
-- Returns  1 dropped; 0 it is not left over any more; -1 a run is open: nothing was changed
-- Atomic because a run that opens takes what is left over into its books, in which nothing may be missing from then on.
--          And because what was left over must be what is pending and what was dropped, at any instant.
local current, event, pending, runs, dropped = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local event_id, type = ARGV[1], ARGV[2]
if redis.call('EXISTS', current) == 1 then return -1 end
if redis.call('ZREM', pending, event_id) == 0 then return 0 end
redis.call('DEL', event)
local last = redis.call('LINDEX', runs, 0) or ''
if redis.call('HGET', dropped, 'run') ~= last then
  redis.call('DEL', dropped)
  redis.call('HSET', dropped, 'run', last)
end
redis.call('HINCRBY', dropped, 'events:' .. type, 1)
return 1
