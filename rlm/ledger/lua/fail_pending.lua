-- Makes a dead letter of a pending event whose type is no longer configured.
-- KEYS[1]  lease    hash with the fencing token
-- KEYS[2]  event    hash of the event
-- KEYS[3]  pending  zset of its type
-- KEYS[4]  tally    hash of the run's counts
-- KEYS[5]  failed   the list of dead letters
-- ARGV[1]  token
-- ARGV[2]  event id
-- ARGV[3]  type
-- ARGV[4]  dedupe_ms  how long the event is remembered, to recognise duplicates
-- ARGV[5]  letter     the dead letter, JSON
-- Returns  1 settled, 0 the event was no longer pending and nothing was changed
-- Atomic because a deposed conductor, whose configuration may be older, must not settle what its successor can send.
-- include settle_event
local lease, event, pending, tally, failed = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local token, event_id, type, dedupe_ms, letter = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5]
-- include fence
if not redis.call('ZSCORE', pending, event_id) then return 0 end
redis.call('LLEN', failed)  -- what is refused is so before anything is changed
redis.call('HINCRBY', tally, 'failed:' .. type, 1)
redis.call('ZREM', pending, event_id)
redis.call('LPUSH', failed, letter)
redis.call('HSET', event, 'letter', redis.sha1hex(letter))
settle_event(event, 'failed', dedupe_ms)
return 1
