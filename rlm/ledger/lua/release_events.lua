-- Releases pending events of one type: their messages are sent next.
-- KEYS[1]  lease     hash with the fencing token
-- KEYS[2]  current   id of the open run
-- KEYS[3]  pending   zset of the type
-- KEYS[4]  released  zset of the type, by when an unclaimed one is pending again (microseconds of Redis time)
-- KEYS[5..] hash of each event
-- ARGV[1]  token
-- ARGV[2]  run id
-- ARGV[3]  claim_us  how long a release waits to be claimed, microseconds
-- then for each event: its id, the name of the endpoint meant for it
-- Returns  for each event its release number, 0 for one that is not pending any more, -1 for one that cannot be sent: its
--          hash is missing, or holds what it cannot
-- Atomic because an event must be in one state, and an older message of it must be refused from this instant.
local lease, current, pending, released = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local token, run_id, claim_us = ARGV[1], ARGV[2], tonumber(ARGV[3])
-- include fence
if redis.call('GET', current) ~= run_id then return redis.error_reply('FENCED by another conductor') end
-- include now
local due = string.format('%.0f', now + claim_us)
local numbers = {}
local function is_sound(event)
  local told = redis.pcall('HMGET', event, 'score', 'release', 'attempt', 'tries', 'runs', 'deaths', 'trail', 'unsent',
    'closings')
  if told.err or not tonumber(told[1] or nil) then return false end
  for field = 2, 9 do
    if told[field] and (#told[field] > 15 or not string.match(told[field], '^%d+$')) then return false end
  end
  return redis.call('HEXISTS', event, 'item') == 1 and redis.call('HEXISTS', event, 'wallet') == 1
end
for index = 1, #KEYS - 4 do
  local event, event_id, endpoint = KEYS[4 + index], ARGV[2 + 2 * index], ARGV[3 + 2 * index]
  if not redis.call('ZSCORE', pending, event_id) then
    numbers[index] = 0
  elseif not is_sound(event) then
    numbers[index] = -1
  else
    redis.call('ZREM', pending, event_id)
    numbers[index] = redis.call('HINCRBY', event, 'release', 1)
    redis.call('HSET', event, 'endpoint', endpoint)
    redis.call('ZADD', released, due, event_id)
  end
end
return numbers
