-- Settles an event as failed: it becomes a dead letter.
-- KEYS[1]  event     hash of the event
-- KEYS[2]  inflight  zset of its type
-- KEYS[3]  calls     hash of the worker: event id -> its call
-- KEYS[4]  tally     hash of the run's counts
-- KEYS[5]  failed    the list of dead letters
-- ARGV[1]  event id
-- ARGV[2]  worker
-- ARGV[3]  release      number of the release it was claimed under
-- ARGV[4]  type
-- ARGV[5]  endpoint     name of the endpoint that was called
-- ARGV[6]  failing      '1' if the endpoint failed for the moment, '0' if it answered that it does not want it
-- ARGV[7]  dedupe_ms    how long the event is remembered, to recognise duplicates
-- ARGV[8]  letter       the dead letter, JSON
-- ARGV[9]  entry        of the event's trail: the call and its answer, JSON
-- ARGV[10] kind         the word in which the answer is counted among the run's troubles, or empty
-- Returns  1 settled, 0 the claim was no longer the worker's and nothing was changed
-- Atomic because the letter and the event must never exist both, nor neither.
-- include append_trail
-- include settle_event
local event, inflight, calls, tally, failed = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local event_id, worker, release, type, endpoint, failing, dedupe_ms, letter, entry, kind =
  ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], tonumber(ARGV[7]), ARGV[8], ARGV[9], ARGV[10]
local claim = redis.call('HMGET', event, 'owner', 'release')
-- include lost_claim
if not redis.call('ZSCORE', inflight, event_id) then return 0 end
redis.call('LLEN', failed)  -- what is refused is so before anything is changed
redis.call('HINCRBY', tally, 'failed:' .. type, 1)
redis.call('ZREM', inflight, event_id)
redis.call('LPUSH', failed, letter)
redis.call('HINCRBY', tally, 'errors:' .. endpoint, 1)
if failing == '1' then redis.call('HINCRBY', tally, 'failing:' .. type .. ' ' .. endpoint, 1) end
if kind ~= '' then redis.call('HINCRBY', tally, 'trouble:' .. endpoint .. ' ' .. kind, 1) end
redis.call('HSET', event, 'last', endpoint)
redis.call('HINCRBY', event, 'attempt', 1)
append_trail(event, entry)
redis.call('HSET', event, 'letter', redis.sha1hex(letter))  -- which alone may have it forgotten
settle_event(event, 'failed', dedupe_ms)
return 1
