--- rest_endpoint(health; asked_us: number, longest_us: number)
-- Rests an endpoint that refused a call as one too many, for all workers at once; after the rest a probe may reopen it.
-- From its second refusal in a row on it rests for at least a second, twice as long with each further one, because it
-- may ask for no rest, or one that is too short, for ever.
-- health      hash of the endpoint: rest_until_us, probing (1, or the stamp of the last probe's slot), probe_until_us,
--             refusals in a row, failures in a row, opened_us, failed_with (in words)
-- asked_us    how long it asked for, microseconds
-- longest_us  up to how long the rest grows
-- Returns     how long it rests from now, microseconds
-- Atomic because many workers learn the same thing at the same moment, and the longest rest must stand.
-- include clock
-- include resting
local now, rested_until = now_us(), rests_until(health)
local refusals = rested_until > now and 1 or redis.call('HINCRBY', health, 'refusals', 1)  -- it was sent before that rest
local floor_us = refusals > 1 and math.min(longest_us, 1000000 * 2 ^ math.min(refusals - 2, 30)) or 0
return rest(health, now, math.max(now + math.max(asked_us, floor_us), rested_until))

--- fail_endpoint(health; first_us: number, longest_us: number, failing: number, why)
-- Counts a failure of an endpoint. From some in a row on it rests for all workers, after a failed probe as well.
-- health      as in rest_endpoint
-- first_us    the first rest, microseconds, which doubles with each further failure
-- longest_us  the longest rest
-- failing     number of failures in a row from which on it rests
-- why         in a few words
-- Returns     {rest_us, opened}: how long it rests from now, microseconds, 0 if it does not; whether this failure began the
--             rest, which a probe that fails later does not
-- Atomic because many workers learn the same thing at the same moment, and each failure must count once.
-- include clock
-- include replies
-- include resting
local now, rested_until = now_us(), rests_until(health)
if rested_until > now then return named{rest_us = math.ceil(rested_until - now)} end  -- it was sent before that rest
redis.call('HDEL', health, 'refusals')
redis.call('HSET', health, 'failed_with', why)
local failures = redis.call('HINCRBY', health, 'failures', 1)
local opened = failures == failing
if opened then redis.call('HSET', health, 'opened_us', us(now)) end
if failures < failing and not redis.call('HGET', health, 'probing') then return named{rest_us = 0} end
local rest_us = math.min(longest_us, first_us * 2 ^ math.max(0, math.min(failures - failing, 30)))
return named{rest_us = rest(health, now, now + rest_us), opened = opened}

--- reopen_endpoint(health)
-- Reopens an endpoint that answered well: its failures and refusals in a row and its probing end.
-- health   as in rest_endpoint
-- Returns  1 if it was probing, else 0; a rest that has not ended continues
-- Atomic because a rest may begin at the same moment, and must not be lifted by an older answer.
-- include clock
-- include resting
if rests_until(health) > now_us() then return 0 end
local probing = redis.call('HEXISTS', health, 'probing')
redis.call('HDEL', health, 'rest_until_us', 'probing', 'probe_until_us', 'refusals', 'failures', 'failed_with')
return probing

--- resting
-- The rest of an endpoint.
-- Gives  rests_until(health)           when it ends or ended, microseconds
--        rest(health, now, until_us)   begins it; returns how long it lasts from now, microseconds
-- include clock
local function rests_until(health)
  return tonumber(redis.call('HGET', health, 'rest_until_us') or 0)
end
local function rest(health, now, until_us)
  redis.call('HSET', health, 'rest_until_us', us(until_us), 'probing', '1')
  redis.call('HDEL', health, 'probe_until_us')
  return math.ceil(until_us - now)
end
