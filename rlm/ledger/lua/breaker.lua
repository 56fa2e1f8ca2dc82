--- rest_endpoint
-- Rests an endpoint for all workers at once; after the rest a single probe may reopen it.
-- KEYS[1]  health  hash of the endpoint: rest_until_us, probing (1, or the stamp of the last probe's slot), probe_until_us,
--          failures, opened_us, failed_with (in words), and about calls that it refused although its limit allows them:
--          refused_limit, refused_nth, refused_calls, refused_us, refused_stamps
-- KEYS[2]  window  list of its slots
-- ARGV[1]  rest_us    how long, microseconds; for a failure: the first rest, which doubles with each further failure
-- ARGV[2]  longest_us the longest rest for a failure
-- ARGV[3]  failing    number of failures in a row from which on it rests (one failure suffices while it is probed); 0: it
--          rests now, whatever came before
-- ARGV[4]  stamp      of the slot of a call that was refused as one too many; empty for any other call
-- ARGV[5]  period_us  the shortest period of its limit plus the guard, microseconds; 0: it refused no call
-- ARGV[6]  limit      the text of that limit
-- ARGV[7]  amount     what it allows in that period; 0: the call was a probe, which shows no number
-- ARGV[8]  why        of a failure, in a few words; empty otherwise
-- Returns  {rest_us, opened, noted, nth}: how long it rests from now, microseconds, 0 if it does not; 1 if this failure
--          began the rest (a probe that fails later does not), else 0; how many refusals are noted under this limit, 0 if
--          this one is not; and the lowest number that a refused call had in its period
-- Atomic because many workers learn the same thing at the same moment, and the longest rest must stand.
local health, window = KEYS[1], KEYS[2]
local rest_us, longest_us, failing = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local stamp, period_us, limit, amount = tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6], tonumber(ARGV[7])
-- include now
-- include younger
local opened = 0
local rested_until = tonumber(redis.call('HGET', health, 'rest_until_us') or 0)
if failing > 0 then
  -- The call was sent before the rest, so it adds nothing.
  if rested_until > now then return { math.ceil(rested_until - now), 0, 0, 0 } end
  local failures = redis.call('HINCRBY', health, 'failures', 1)
  redis.call('HSET', health, 'failed_with', ARGV[8])
  opened = failures == failing and 1 or 0
  if opened == 1 then redis.call('HSET', health, 'opened_us', string.format('%.0f', now)) end
  if failures < failing and not redis.call('HGET', health, 'probing') then return { 0, 0, 0, 0 } end
  rest_us = math.min(longest_us, rest_us * 2 ^ math.max(0, math.min(failures - failing, 30)))
end
local until_us = math.max(now + rest_us, rested_until)
redis.call('HSET', health, 'rest_until_us', string.format('%.0f', until_us), 'probing', '1')
redis.call('HDEL', health, 'probe_until_us')
local noted, nth = 0, 0
if period_us > 0 and stamp then
  -- Concurrent calls have no order, so all that were sent by now may have come before this one, except those that were
  -- refused, because an API counts what it accepted. No period has more calls than the limit allows.
  local refused, young = redis.call('HGET', health, 'refused_stamps') or '', {}
  for one in string.gmatch(refused, '%d+') do
    if tonumber(one) > stamp - period_us then young[#young + 1] = one end
  end
  young[#young + 1] = ARGV[4]
  redis.call('HSET', health, 'refused_stamps', table.concat(young, ' ', math.max(1, #young - 999)))
  nth = math.min(amount, younger(window, stamp - period_us) - #young + 1)
  if redis.call('HGET', health, 'refused_limit') ~= limit then
    redis.call('HDEL', health, 'refused_nth', 'refused_calls', 'refused_us')
  end
  if nth == 1 then  -- none was accepted, so the number is not the reason, nor for calls that were under way with it
    redis.call('HDEL', health, 'refused_limit', 'refused_nth', 'refused_calls', 'refused_us')
  elseif nth > 1 then
    nth = math.min(nth, tonumber(redis.call('HGET', health, 'refused_nth') or nth))
    redis.call('HSET', health, 'refused_limit', limit, 'refused_nth', nth)
    noted = redis.call('HINCRBY', health, 'refused_calls', 1)
  end
end
if noted > 0 or (period_us > 0 and redis.call('HEXISTS', health, 'refused_us') == 1) then
  redis.call('HSET', health, 'refused_us', string.format('%.0f', now))
end
return { math.ceil(until_us - now), opened, noted, nth }

--- reopen_endpoint
-- Reopens an endpoint that answered well: its failures in a row and its probing end.
-- KEYS[1]  health  hash of the endpoint: rest_until_us, probing, probe_until_us, failures, failed_with
-- Returns  1 if it was probing, else 0; a rest that has not ended continues
-- Atomic because a rest may begin at the same moment, and must not be lifted by an older answer.
local health = KEYS[1]
-- include now
if tonumber(redis.call('HGET', health, 'rest_until_us') or 0) > now then return 0 end
local probing = redis.call('HEXISTS', health, 'probing')
redis.call('HDEL', health, 'rest_until_us', 'probing', 'probe_until_us', 'failures', 'failed_with')
return probing
