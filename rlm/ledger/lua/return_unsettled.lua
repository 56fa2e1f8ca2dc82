-- Makes events pending again, leftovers, that a finishing run could not settle.
-- KEYS[1]  current  id of the open run
-- KEYS[2]  run      its hash
-- KEYS[3]  holder   zset of one type: released, inflight, backoff or spent
-- KEYS[4]  pending  zset of the type
-- KEYS[5..] hash of each event
-- ARGV[1]  run id
-- ARGV[2]  sent     '1' if the holder is inflight: with a slot (its lease is positive) a call may have been sent,
--          so the next one is another attempt
-- then for each event: its id, the entry of its trail for a call whose answer nobody knows, JSON; unused without one
-- Returns  how many are pending again, -1 when that run is not finishing
-- Atomic because a late claim or answer must find the event gone: its release number grows here.
local current, run, holder, pending = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local run_id, sent = ARGV[1], ARGV[2]
if redis.call('GET', current) ~= run_id or redis.call('HGET', run, 'state') ~= 'finishing' then return -1 end
-- include append_trail
-- include score_of
local returned = 0
redis.call('ZCARD', pending)  -- refused here, it is before anything is changed
for index = 1, #KEYS - 4 do
  local event, event_id, entry = KEYS[4 + index], ARGV[1 + 2 * index], ARGV[2 + 2 * index]
  local lease = redis.call('ZSCORE', holder, event_id)
  if lease then
    redis.call('ZREM', holder, event_id)
    redis.pcall('HINCRBY', event, 'release', 1)
    redis.pcall('HINCRBY', event, 'closings', 1)  -- that is no release
    redis.pcall('HDEL', event, 'owner')
    if sent == '1' and tonumber(lease) > 0 then
      redis.pcall('HINCRBY', event, 'attempt', 1)
      append_trail(event, entry)
    end
    redis.call('ZADD', pending, score_of(event), event_id)
    returned = returned + 1
  end
end
return returned
