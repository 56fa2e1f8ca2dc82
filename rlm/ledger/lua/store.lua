--- publish_limits
-- Publishes the limits of the configuration file, except for limits set by hand that still stand.
-- KEYS[1]  lease    hash with the fencing token
-- KEYS[2]  limits   hash: name of an endpoint or a budget -> its limit in force
-- KEYS[3]  filed    hash: the same name -> the limit that the file had when it was last published
-- KEYS[4]  changes  list of records (JSON), newest first
-- ARGV[1]  token
-- ARGV[2]  kept     number of records kept
-- then for each of them: its name, its limit in the file, the record of a change to it but for when and from what
-- Returns  how many limits were set from the file
-- Atomic because a limit set by hand must hold until the file's value for it changes, and no shorter.
local lease, limits, filed, changes = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local token, kept = ARGV[1], tonumber(ARGV[2])
-- include fence
-- include now
-- include record_change
local set = 0
for index = 3, #ARGV, 3 do
  local name, limit, record = ARGV[index], ARGV[index + 1], ARGV[index + 2]
  if redis.call('HGET', filed, name) ~= limit then
    local before = redis.call('HGET', limits, name)
    redis.call('HSET', filed, name, limit)
    redis.call('HSET', limits, name, limit)
    if before ~= limit then record_change(changes, kept, before and quoted(before) or 'null', record) end
    set = set + 1
  end
end
return set

--- shift_stamps
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
