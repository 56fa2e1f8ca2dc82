--- begin_alone
-- Begins to carry an event alone that its lane has waited with; from now on the death of its worker counts.
-- KEYS[1]  calls     hash of the worker: event id -> its call
-- ARGV[1]  event id
-- ARGV[2]  lane      the beginning of the note of its call
-- Returns  1 begun, 0 it was taken back meanwhile
-- Atomic because it may be taken back at the same moment.
local noted = redis.call('HGET', KEYS[1], ARGV[1])
if noted ~= ARGV[2] .. '-' and noted ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 1

--- count_events
-- Counts the events of several types by place, and the released calls.
-- KEYS[1]  releases  list of the released calls
-- then for each type: its zsets pending, inflight, backoff, spent
-- Returns  {released, then for each type {pending, inflight, backoff, spent, and those inflight without a slot}}, flat
-- One script because the answer must be of one instant, and for hundreds of types single commands cost more.
local counts = {redis.call('LLEN', KEYS[1])}
for index = 2, #KEYS, 4 do
  for place = index, index + 3 do counts[#counts + 1] = redis.call('ZCARD', KEYS[place]) end
  counts[#counts + 1] = redis.call('ZCOUNT', KEYS[index + 1], '-inf', 0)
end
return counts

--- fail_event
-- Settles an event as failed: it becomes a dead letter.
-- KEYS[1]  event     hash of the event
-- KEYS[2]  inflight  zset of its type
-- KEYS[3]  calls     hash of the worker: event id -> its call
-- KEYS[4]  tally     hash of the run's counts
-- KEYS[5]  failed    the list of dead letters
-- ARGV[1]  event id
-- ARGV[2]  worker
-- ARGV[3]  claims       the number of its claim
-- ARGV[4]  type
-- ARGV[5]  endpoint     name of the endpoint that was called
-- ARGV[6]  failing      '1' if the endpoint failed temporarily, '0' if it rejected the event
-- ARGV[7]  dedupe_ms    how long the event is remembered, to recognise duplicates
-- ARGV[8]  letter       the dead letter, JSON
-- ARGV[9]  entry        for the event's trail: the call and its answer, JSON
-- ARGV[10] kind         the word under which the run's troubles count the answer, or empty
-- Returns  1 settled, 0 the claim was no longer the worker's and nothing was changed
-- Atomic because there must never be both the letter and the event, or neither.
-- include append_trail
-- include settle_event
local event, inflight, calls, tally, failed = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local event_id, worker, number, type, endpoint, failing, dedupe_ms, letter, entry, kind =
  ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], tonumber(ARGV[7]), ARGV[8], ARGV[9], ARGV[10]
local claim = redis.pcall('HMGET', event, 'owner', 'claims')
-- include lost_claim
if not redis.call('ZSCORE', inflight, event_id) then return 0 end
redis.call('LLEN', failed)  -- fails, if it must, before anything is changed
redis.call('HINCRBY', tally, 'failed:' .. type, 1)
redis.call('ZREM', inflight, event_id)
redis.call('LPUSH', failed, letter)
redis.call('HINCRBY', tally, 'errors:' .. endpoint, 1)
if failing == '1' then redis.call('HINCRBY', tally, 'failing:' .. type .. ' ' .. endpoint, 1) end
if kind ~= '' then redis.call('HINCRBY', tally, 'trouble:' .. endpoint .. ' ' .. kind, 1) end
redis.call('HSET', event, 'last', endpoint)
redis.call('HINCRBY', event, 'attempt', 1)
append_trail(event, entry)
redis.call('HSET', event, 'letter', redis.sha1hex(letter))  -- only dropping this letter may forget the event
settle_event(event, 'failed', dedupe_ms)
return 1

--- return_event
-- Gives a claimed event back unsettled: to be sent again now, after a back-off, or in the next run.
-- KEYS[1]  event     hash of the event
-- KEYS[2]  inflight  zset of its type
-- KEYS[3]  calls     hash of the worker: event id -> its call
-- KEYS[4]  tally     hash of the run's counts
-- KEYS[5]  target    pending, backoff or spent zset of its type
-- ARGV[1]  event id
-- ARGV[2]  worker
-- ARGV[3]  claims       the number of its claim
-- ARGV[4]  run id
-- ARGV[5]  target       'pending', 'backoff' or 'spent'
-- ARGV[6]  delay_us     for backoff: microseconds until it is pending again
-- ARGV[7]  answer       '' no call was made, 'throttled', 'errors', or 'excused': an error that spends no attempt
-- ARGV[8]  endpoint     name of the endpoint called
-- ARGV[9]  failing      type of the event if the endpoint failed temporarily, else empty
-- ARGV[10] entry        for the event's trail: the call and its answer, JSON; unused if no call was made
-- ARGV[11] kind         the word under which the run's troubles count the answer, or empty
-- Returns  1 given back, 0 the claim was no longer the worker's and nothing was changed
-- Atomic because a worker that was taken for dead may return after its event went to another worker.
-- include append_trail
local event, inflight, calls, tally, target = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local event_id, worker, number, run_id, where, delay_us, answer, endpoint, failing, entry, kind =
  ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6]), ARGV[7], ARGV[8], ARGV[9], ARGV[10], ARGV[11]
local claim = redis.pcall('HMGET', event, 'owner', 'claims', 'score', 'tries_in')
-- include lost_claim
redis.call('ZCARD', target)  -- fails, if it must, before anything is changed
redis.call('HLEN', tally)
if redis.call('ZREM', inflight, event_id) == 0 then return 0 end
redis.call('HDEL', event, 'owner')
-- include now
local score = where == 'backoff' and string.format('%.0f', now + delay_us) or claim[3]
redis.call('ZADD', target, score, event_id)
if answer ~= '' then
  redis.call('HINCRBY', tally, (answer == 'excused' and 'errors' or answer) .. ':' .. endpoint, 1)
  redis.call('HSET', event, 'last', endpoint)
  append_trail(event, entry)
else
  redis.call('HINCRBY', event, 'unsent', 1)
  redis.call('HINCRBY', tally, 'unsent:' .. string.match(event_id, '[^:]*$'), 1)
end
if failing ~= '' then redis.call('HINCRBY', tally, 'failing:' .. failing .. ' ' .. endpoint, 1) end
if kind ~= '' then redis.call('HINCRBY', tally, 'trouble:' .. endpoint .. ' ' .. kind, 1) end
if answer == 'errors' then
  redis.call('HINCRBY', event, 'attempt', 1)
  if claim[4] ~= run_id then redis.call('HSET', event, 'tries_in', run_id, 'tries', '0') end
  redis.call('HINCRBY', event, 'tries', 1)
end
if where == 'spent' then redis.call('HINCRBY', event, 'runs', 1) end
return 1
