-- Settles an event as completed.
-- KEYS[1]  event     hash of the event
-- KEYS[2]  inflight  zset of its type
-- KEYS[3]  calls     hash of the worker: event id -> its call
-- KEYS[4]  tally     hash of the run's counts
-- KEYS[5]  timings   list of the run, for each completed call: endpoint, type, milliseconds that it took, milliseconds
--                    from its event's claim to its slot, microseconds of Redis time of its answer, milliseconds from
--                    when its event was taken to its answer, milliseconds its lane was idle before it
-- ARGV[1]  event id
-- ARGV[2]  worker
-- ARGV[3]  release      number of the release it was claimed under
-- ARGV[4]  type
-- ARGV[5]  endpoint     name of the endpoint that answered
-- ARGV[6]  duration_ms  from the call's start to its answer
-- ARGV[7]  dedupe_ms    how long the event is remembered, to recognise duplicates
-- ARGV[8]  entry        of the event's trail: the call and its answer, JSON
-- ARGV[9]  waited_ms    from the event's claim to the call's slot
-- ARGV[10] idle_ms      from its lane's last answer to when the call was sent; 0 if it had none
-- Returns  1 settled, 0 the claim was no longer the worker's and nothing was changed
-- Atomic because a worker given up for dead may come back after its event went to another.
-- include append_trail
-- include settle_event
local event, inflight, calls, tally, timings = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local event_id, worker, release, type, endpoint, duration_ms, dedupe_ms, entry, waited_ms, idle_ms =
  ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], tonumber(ARGV[7]), ARGV[8], ARGV[9], ARGV[10]
local claim = redis.call('HMGET', event, 'owner', 'release', 'taken_at')
-- include lost_claim
if not redis.call('ZSCORE', inflight, event_id) then return 0 end
redis.call('LLEN', timings)  -- what is refused is so before anything is changed
redis.call('HINCRBY', tally, 'completed:' .. type, 1)
redis.call('ZREM', inflight, event_id)
redis.call('HINCRBY', tally, 'delivered:' .. endpoint, 1)
-- include now
local age_ms = string.format('%.0f', math.max(0, now / 1000 - (tonumber(claim[3]) or now / 1000000) * 1000))
local at_us = string.format('%.0f', now)
redis.call('RPUSH', timings, table.concat({endpoint, type, duration_ms, waited_ms, at_us, age_ms, idle_ms}, ' '))
redis.call('HSET', event, 'last', endpoint)
redis.call('HINCRBY', event, 'attempt', 1)
append_trail(event, entry)
settle_event(event, 'completed', dedupe_ms)
return 1
