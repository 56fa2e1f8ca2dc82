-- Rests an endpoint for all workers at once; when the rest is over a single probe may reopen it.
-- KEYS[1]  health  hash of the endpoint: rest_until_us, probing, probe_until_us, failures, opened_us
-- ARGV[1]  rest_us    how long, microseconds; for a failure: the first rest, doubled with each further failure
-- ARGV[2]  longest_us a failure never rests it longer
-- ARGV[3]  failing    number of failures in a row from which on it is rested, while it is probed after any; 0: rest it
--          now, whatever came before
-- Returns  how long it rests from now, microseconds, 0 when it is not rested; and 1 when by this very failure the
--          endpoint came to rest, else 0: a probe that fails later is nothing new
-- Atomic because many workers learn the same thing at the same moment, and the longest rest must stand.
local health = KEYS[1]
local rest_us, longest_us, failing = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local opened = 0
local rested_until = tonumber(redis.call('HGET', health, 'rest_until_us') or 0)
if failing > 0 then
  -- A call from before the rest: nothing new.
  if rested_until > now then return { math.ceil(rested_until - now), 0 } end
  local failures = redis.call('HINCRBY', health, 'failures', 1)
  opened = failures == failing and 1 or 0
  if opened == 1 then redis.call('HSET', health, 'opened_us', string.format('%.0f', now)) end
  if failures < failing and not redis.call('HGET', health, 'probing') then return { 0, 0 } end
  rest_us = math.min(longest_us, rest_us * 2 ^ math.max(0, math.min(failures - failing, 30)))
end
local until_us = math.max(now + rest_us, rested_until)
redis.call('HSET', health, 'rest_until_us', string.format('%.0f', until_us), 'probing', '1')
redis.call('HDEL', health, 'probe_until_us')
return { math.ceil(until_us - now), opened }
