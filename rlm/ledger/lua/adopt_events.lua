-- Takes events into the ledger again whose place in it was lost: they are in no zset of their type, and not settled.
-- KEYS[1]  lease   hash with the fencing token
-- KEYS[2]  target  where they go: the pending zset of their type, or the retried one
-- KEYS[3..] every zset of the type: pending, released, inflight, backoff, spent, retried; then the hash of each event
-- ARGV[1]  token
-- ARGV[2..] id of each event
-- Returns  how many were taken in
-- Atomic because an event must be in one state, and an older message of it, or an answer, be refused from this instant.
local lease, target = KEYS[1], KEYS[2]
local token = ARGV[1]
-- include fence
local adopted = 0
for index = 9, #KEYS do
  local event, event_id, held = KEYS[index], ARGV[index - 7], false
  for zset = 3, 8 do held = held or redis.call('ZSCORE', KEYS[zset], event_id) end
  local told = redis.pcall('HMGET', event, 'score', 'state')
  if not held and not told.err and tonumber(told[1]) and not told[2] and redis.call('HEXISTS', event, 'item') == 1 then
    redis.call('ZADD', target, told[1], event_id)
    redis.call('HINCRBY', event, 'release', 1)
    redis.call('HINCRBY', event, 'closings', 1)  -- that is no release
    redis.call('HDEL', event, 'owner')
    adopted = adopted + 1
  end
end
return adopted
