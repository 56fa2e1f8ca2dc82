-- Makes events pending again, leftovers, that a finishing run could not settle.
-- KEYS[1]  current  id of the open run
-- KEYS[2]  run      its hash
-- KEYS[3]  holder   zset of one type: released, inflight, backoff or spent
-- KEYS[4]  pending  zset of the type
-- KEYS[5..] hash of each event
-- ARGV[1]  run id
-- ARGV[2]  sent     '1' where the holder is inflight: with a slot (its lease is positive) a call may have been sent,
--          so the next one is another attempt
-- then the id of each event
-- Returns  how many are pending again, -1 when that run is not finishing
-- Atomic because a late claim or answer must find the event gone: its release number grows here.
local current, run, holder, pending = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local run_id, sent = ARGV[1], ARGV[2]
if redis.call('GET', current) ~= run_id or redis.call('HGET', run, 'state') ~= 'finishing' then
  return -1
end
local returned = 0
for index = 1, #KEYS - 4 do
  local event, event_id = KEYS[4 + index], ARGV[2 + index]
  local lease = redis.call('ZSCORE', holder, event_id)
  if lease then
    redis.call('ZREM', holder, event_id)
    redis.call('HINCRBY', event, 'release', 1)
    redis.call('HDEL', event, 'owner')
    if sent == '1' and tonumber(lease) > 0 then
      redis.call('HINCRBY', event, 'attempt', 1)
    end
    redis.call('ZADD', pending, redis.call('HGET', event, 'score'), event_id)
    returned = returned + 1
  end
end
return returned
