--- begin_alone(calls; event_id, lane)
-- Begins to carry an event alone that its lane has waited with; from now on the death of its worker counts.
-- calls    hash of the worker: event id -> its call
-- event_id
-- lane     the beginning of the note of its call
-- Returns  1 begun, 0 it was taken back meanwhile
-- Atomic because it may be taken back at the same moment.
local note = redis.call('HGET', calls, event_id)
if note ~= lane .. '-' and note ~= lane then return 0 end
redis.call('HSET', calls, event_id, lane)
return 1

--- count_events(releases; places: json)
-- Counts the events of several types by place, and the released calls.
-- releases  list of the released calls
-- places    for each type its zsets {pending, inflight, backoff, spent}
-- Returns   {released, types}: for each type {pending, inflight, backoff, spent, boarding: those inflight without a slot}
-- One script because the answer must be of one instant, and for hundreds of types single commands cost more.
-- include replies
local types = {}
for index, place in ipairs(places) do
  types[index] = named{
    pending = redis.call('ZCARD', place.pending),
    inflight = redis.call('ZCARD', place.inflight),
    backoff = redis.call('ZCARD', place.backoff),
    spent = redis.call('ZCARD', place.spent),
    boarding = redis.call('ZCOUNT', place.inflight, '-inf', 0),
  }
end
return named{released = redis.call('LLEN', releases), types = types}

--- fail_event(event, inflight, calls, tally, failed;
---   event_id, worker, claims, called: json, dedupe_ms: number, letter)
-- Settles an event as failed: it becomes a dead letter.
-- event      hash of the event
-- inflight   zset of its type
-- calls      hash of the worker: event id -> its call
-- tally      hash of the run's counts
-- failed     the list of dead letters
-- event_id
-- worker
-- claims     the number of its claim
-- called     as in return_event, but never null
-- dedupe_ms  how long the event is remembered, to recognise duplicates
-- letter     the dead letter, JSON
-- Returns    1 settled, 0 the claim was no longer the worker's and nothing was changed
-- Atomic because there must never be both the letter and the event, or neither.
-- include clock
-- include called
local lost = lost_claim(redis.pcall('HMGET', event, 'owner', 'claims'), worker, claims, calls, event_id)
if lost then return lost end
if not redis.call('ZSCORE', inflight, event_id) then return 0 end
redis.call('LLEN', failed)  -- fails, if it must, before anything is changed
redis.call('HINCRBY', tally, 'failed:' .. string.match(event_id, '[^:]*$'), 1)
redis.call('ZREM', inflight, event_id)
redis.call('LPUSH', failed, letter)
count_call(tally, event, event_id, called)
redis.call('HINCRBY', event, 'attempt', 1)
if dedupe_ms <= 0 then return redis.call('DEL', event) end
redis.call('HDEL', event, 'item', 'owner')
-- Only dropping this letter may forget the event.
redis.call('HSET', event, 'state', 'failed', 'letter', redis.sha1hex(letter))
redis.call('PEXPIRE', event, dedupe_ms)
return 1

--- return_event(event, inflight, calls, tally, target;
---   event_id, worker, claims, run_id, where, delay_us: number, called: json)
-- Gives a claimed event back unsettled: to be sent again now, after a back-off, or in the next run.
-- event     hash of the event
-- inflight  zset of its type
-- calls     hash of the worker: event id -> its call
-- tally     hash of the run's counts
-- target    pending, backoff or spent zset of its type
-- event_id
-- worker
-- claims    the number of its claim
-- run_id
-- where     'pending', 'backoff' or 'spent'
-- delay_us  for backoff: microseconds until it is pending again
-- called    null: no call was made; or the call: {answer: 'throttled' or 'errors', endpoint: its name, failing: whether it
--           failed temporarily, spends: whether it spends an attempt, kind: the word under which the run's troubles count
--           the answer, or empty, entry: for the event's trail, JSON}
-- Returns   1 given back, 0 the claim was no longer the worker's and nothing was changed
-- Atomic because a worker that was taken for dead may return after its event went to another worker.
-- include clock
-- include called
local claim = redis.pcall('HMGET', event, 'owner', 'claims', 'score', 'tries_in')
local lost = lost_claim(claim, worker, claims, calls, event_id)
if lost then return lost end
redis.call('ZCARD', target)  -- fails, if it must, before anything is changed
redis.call('HLEN', tally)
if redis.call('ZREM', inflight, event_id) == 0 then return 0 end
redis.call('HDEL', event, 'owner')
redis.call('ZADD', target, where == 'backoff' and us(now_us() + delay_us) or claim[3], event_id)
if called == cjson.null then
  redis.call('HINCRBY', event, 'unsent', 1)
  redis.call('HINCRBY', tally, 'unsent:' .. string.match(event_id, '[^:]*$'), 1)
  return 1
end
count_call(tally, event, event_id, called)
if called.spends then
  redis.call('HINCRBY', event, 'attempt', 1)
  if claim[4] ~= run_id then redis.call('HSET', event, 'tries_in', run_id, 'tries', '0') end
  redis.call('HINCRBY', event, 'tries', 1)
end
if where == 'spent' then redis.call('HINCRBY', event, 'runs', 1) end
return 1

--- called
-- A call that did not complete its event.
-- Gives  lost_claim(claim, worker, claims, calls, event_id)  the reply of a script if the claim is no longer the worker's,
--        else nil; the note of a newer claim by the same worker stays. claim: {owner, claims} of the event, or the error
--        of reading it
--        count_call(tally, event, event_id, called)  counts it for the run, and writes it into the trail of its event
-- include clock
-- include trail
local function lost_claim(claim, worker, claims, calls, event_id)
  if claim.err then return claim end
  if claim[1] ~= worker or claim[2] == claims then redis.call('HDEL', calls, event_id) end
  if claim[1] ~= worker or claim[2] ~= claims then return 0 end
end
local function count_call(tally, event, event_id, called)
  local function count(what) redis.call('HINCRBY', tally, what, 1) end
  count(called.answer .. ':' .. called.endpoint)
  if called.failing then count('failing:' .. string.match(event_id, '[^:]*$') .. ' ' .. called.endpoint) end
  if called.kind ~= '' then count('trouble:' .. called.endpoint .. ' ' .. called.kind) end
  redis.call('HSET', event, 'last', called.endpoint)
  append_trail(event, now_us(), called.entry)
end
