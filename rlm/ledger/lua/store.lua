--- publish_limits
-- Publishes the limits of the configuration file, except for limits set by hand that still stand.
-- KEYS[1]  lease    hash with the fencing token
-- KEYS[2]  limits   hash: name of an endpoint or a budget -> its limit in force
-- KEYS[3]  filed    hash: the same name -> the limit that the file had when it was last published
-- KEYS[4]  changes  list of records (JSON), newest first
-- then     the health of each of them, hash: named, the name that it had when it was last published
-- ARGV[1]  token
-- ARGV[2]  kept     number of records kept
-- then for each of them: its name, its limit in the file, the record of a change to it but for when and from what
-- Returns  how many limits were set from the file
--          One that is renamed takes its limit along: what was in force is the window's. One whose window was never
--          published takes over what its name had, unless that went to another name.
-- Atomic because a limit set by hand must hold until the file's value for it changes, and no shorter.
local lease, limits, filed, changes = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local token, kept = ARGV[1], tonumber(ARGV[2])
-- include fence
-- include now
-- include record_change
local all, names, formers, stay = {}, {}, {}, {}
for index = 3, #ARGV, 3 do
  local name, health = ARGV[index], KEYS[4 + index / 3]
  local former = redis.call('HGET', health, 'named')
  all[#all + 1] = {name = name, limit = ARGV[index + 1], record = ARGV[index + 2], health = health, former = former}
  names[name] = true
  if former then formers[former] = true end
  if former == name then stay[name] = true end
end
for _, one in ipairs(all) do  -- before any is written: two may have changed names
  local from = one.former or (not formers[one.name] and one.name)
  if from and (from == one.name or not stay[from]) then
    one.before, one.filed = redis.call('HGET', limits, from), redis.call('HGET', filed, from)
  end
end
local set = 0
for _, one in ipairs(all) do
  local stands, renamed = one.filed == one.limit, one.former ~= one.name
  local limit = stands and one.before or one.limit
  if renamed or not stands then
    redis.call('HSET', filed, one.name, one.limit)
    redis.call('HSET', limits, one.name, limit)
  end
  if renamed then
    redis.call('HSET', one.health, 'named', one.name)
    if one.former and not names[one.former] then
      redis.call('HDEL', filed, one.former)
      redis.call('HSET', limits, one.former, limit)  -- who still has the former file gets no slot by another one
    end
  end
  if not stands then
    set = set + 1
    if one.before ~= limit then
      record_change(changes, kept, one.before and quoted(one.before) or 'null', one.record)
    end
  end
end
return set

--- shift_stamps
-- Moves all moments still to come with the clock of Redis, which was set; no slot is given until endpoints were held.
-- KEYS[1]  lease    hash with the fencing token
-- KEYS[2]  current  id of the open run
-- KEYS[3]  run      hash of the run that was open when the clock was read: deadline_us
-- KEYS[4]  epoch    hash: shifted_us, by how much moments were ever moved; distrust, why windows are not to be trusted
-- KEYS[5]  releases list of the calls that are released, which are released anew
-- then     the health of each endpoint and budget: rest_until_us, held_until_us, paused_until_us, probe_until_us
-- then     the zsets by moment: backoff, and inflight, in which a negative one has no slot yet
-- ARGV[1]  token
-- ARGV[2]  run id    of that run, or empty
-- ARGV[3]  shift_us  by how much, microseconds; negative: it was set back
-- ARGV[4]  healths   how many of the keys are one
-- ARGV[5]  why       in words
-- Returns  how many moments were moved
-- Atomic because a lease that is moved twice, or half of them, would have events sent again.
local lease, current, run, epoch, releases = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local token, run_id, shift_us, healths, why = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]
-- include fence
redis.call('HDEL', epoch, 'server')
redis.call('HSET', epoch, 'distrust', why)
redis.call('HINCRBY', epoch, 'shifted_us', ARGV[3])
redis.call('DEL', releases)
local moved = 0
local function shift(key, field)
  local at = redis.call('HGET', key, field)
  if not at then return end
  redis.call('HSET', key, field, string.format('%.0f', tonumber(at) + shift_us))
  moved = moved + 1
end
if run_id ~= '' and redis.call('GET', current) == run_id then shift(run, 'deadline_us') end
for index = 6, 5 + healths do
  for _, field in ipairs({'rest_until_us', 'held_until_us', 'paused_until_us', 'probe_until_us'}) do
    shift(KEYS[index], field)
  end
end
for index = 6 + healths, #KEYS do
  local told = redis.call('ZRANGE', KEYS[index], 0, -1, 'WITHSCORES')
  for place = 1, #told, 2 do
    local at = tonumber(told[place + 1])
    at = at < 0 and at - shift_us or at + shift_us
    redis.call('ZADD', KEYS[index], string.format('%.0f', at), told[place])
    moved = moved + 1
  end
end
return moved
