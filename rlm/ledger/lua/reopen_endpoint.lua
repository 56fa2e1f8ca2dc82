-- Reopens an endpoint that answered well: no more failures in a row, no more probing.
-- KEYS[1]  health  hash of the endpoint: rest_until_us, probing, probe_until_us, failures, failed_with
-- Returns  1 when it was probing, else 0; a rest that is not over yet stands
-- Atomic because a rest may begin at the same moment, and must not be lifted by an older answer.
local health = KEYS[1]
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
if tonumber(redis.call('HGET', health, 'rest_until_us') or 0) > now then
  return 0
end
local probing = redis.call('HEXISTS', health, 'probing')
redis.call('HDEL', health, 'rest_until_us', 'probing', 'probe_until_us', 'failures', 'failed_with')
return probing
