-- Makes events pending again whose back-off is over.
-- KEYS[1]  backoff  zset of the type, by when it is over (microseconds of Redis time)
-- KEYS[2]  pending  zset of the type
-- KEYS[3..] hash of each event
-- ARGV     id of each event
-- Returns  how many are pending again
-- Atomic because an event must be in one state at any instant.
local backoff, pending = KEYS[1], KEYS[2]
local promoted = 0
-- include score_of
for index = 1, #ARGV do
  local event, event_id = KEYS[2 + index], ARGV[index]
  if redis.call('ZREM', backoff, event_id) == 1 then
    redis.call('ZADD', pending, score_of(event), event_id)
    promoted = promoted + 1
  end
end
return promoted
