-- Moves all moments still to come with the clock of Redis, which was set; no slot is given until endpoints were held.
-- KEYS[1]  lease    hash with the fencing token
-- KEYS[2]  current  id of the open run
-- KEYS[3]  run      hash of the run that was open when the clock was read: deadline_us
-- KEYS[4]  epoch    hash: shifted_us, by how much moments were ever moved; distrust, why windows are not to be trusted
-- then     the health of each endpoint and budget: rest_until_us, held_until_us, paused_until_us, probe_until_us
-- then     the zsets by moment: released and backoff, and inflight, in which a negative one has no slot yet
-- ARGV[1]  token
-- ARGV[2]  run id    of that run, or empty
-- ARGV[3]  shift_us  by how much, microseconds; negative: it was set back
-- ARGV[4]  healths   how many of the keys are one
-- ARGV[5]  why       in words
-- Returns  how many moments were moved
-- Atomic because a lease that is moved twice, or half of them, would have events sent again.
local lease, current, run, epoch = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local token, run_id, shift_us, healths, why = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]
-- include fence
redis.call('HDEL', epoch, 'server')
redis.call('HSET', epoch, 'distrust', why)
redis.call('HINCRBY', epoch, 'shifted_us', ARGV[3])
local moved = 0
local function shift(key, field)
  local at = redis.call('HGET', key, field)
  if not at then return end
  redis.call('HSET', key, field, string.format('%.0f', tonumber(at) + shift_us))
  moved = moved + 1
end
if run_id ~= '' and redis.call('GET', current) == run_id then shift(run, 'deadline_us') end
for index = 5, 4 + healths do
  for _, field in ipairs({'rest_until_us', 'held_until_us', 'paused_until_us', 'probe_until_us'}) do
    shift(KEYS[index], field)
  end
end
for index = 5 + healths, #KEYS do
  local told = redis.call('ZRANGE', KEYS[index], 0, -1, 'WITHSCORES')
  for place = 1, #told, 2 do
    local at = tonumber(told[place + 1])
    at = at < 0 and at - shift_us or at + shift_us
    redis.call('ZADD', KEYS[index], string.format('%.0f', at), told[place])
    moved = moved + 1
  end
end
return moved
