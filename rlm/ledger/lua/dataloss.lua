--- vouch_server
-- Vouches for a server that remembers every slot it is known to have given; only then are slots taken from it.
-- KEYS[1]  lease  hash with the fencing token
-- KEYS[2]  epoch  hash: born (microseconds of Redis time), id, server, slots, shifted_us, distrust, since
-- ARGV[1]  token
-- ARGV[2]  born   of the epoch that the conductor knows, 0 if it knows none
-- ARGV[3]  id     of that epoch
-- ARGV[4]  slots  the number that it knows to have been taken in it, -1 if it does not know
-- ARGV[5]  new id for an epoch that begins here
-- Returns  {now_us, shifted_us, verdict, born, id, slots, why}: 'kept': this server was already vouched for; 'restarted':
--          it was not, and is now; 'new': neither side knew anything; not vouched for: 'forgot': it lost slots, or its
--          windows are marked as untrustworthy; 'unknown': nobody can tell whether it lost any
-- Atomic because a slot may be taken in between, and two conductors may begin an epoch.
local lease, epoch = KEYS[1], KEYS[2]
local token, born, id, slots, new_id = ARGV[1], tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4]), ARGV[5]
-- include fence
-- include now
local at = string.format('%.0f', now)
local server = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
local told = redis.call('HMGET', epoch, 'born', 'id', 'slots', 'server', 'shifted_us', 'distrust', 'since')
local shifted = told[5] or '0'
if not told[1] then
  if born > 0 or told[6] then return {at, shifted, 'forgot', '0', '', 0, ''} end
  redis.call('HSET', epoch, 'born', at, 'id', new_id, 'slots', 0, 'server', server)
  return {at, shifted, 'new', at, new_id, 0, ''}
end
local forgot = tonumber(told[3]) < slots
if told[2] ~= id then  -- an epoch begun by a conductor that knew the previous one has a `since`
  forgot = tonumber(told[1]) <= born or (born > 0 and not told[7])
end
if forgot or told[6] then
  redis.call('HDEL', epoch, 'server')
  return {at, shifted, 'forgot', told[1], told[2], tonumber(told[3]), not forgot and told[6] or ''}
end
if told[4] == server then return {at, shifted, 'kept', told[1], told[2], tonumber(told[3]), ''} end
if slots < 0 and (born > 0 or tonumber(told[3]) > 0) then return {at, shifted, 'unknown', told[1], told[2], tonumber(told[3]), ''} end
redis.call('HSET', epoch, 'server', server)
return {at, shifted, 'restarted', told[1], told[2], tonumber(told[3]), ''}

--- renew_epoch
-- Begins a new epoch after windows could not be trusted; each is held until it can be, then slots are taken again.
-- KEYS[1]  lease  hash with the fencing token
-- KEYS[2]  epoch  hash: born (microseconds of Redis time), id, server, slots; and of this beginning: since, underway_us, why
-- ARGV[1]  token
-- ARGV[2]  after        when the last known epoch was born; the new one is younger
-- ARGV[3]  id           of the new epoch
-- ARGV[4]  why          the windows cannot be trusted, in words
-- ARGV[5]  underway_us  how much longer than its longest period each window is held, microseconds
-- Returns  {born, id} of the new epoch
-- Atomic because no slot may be taken between the hold and vouching for the server.
local lease, epoch = KEYS[1], KEYS[2]
local token, after, id, why, underway_us = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4], ARGV[5]
-- include fence
-- include now
local born = math.max(now, after + 1, tonumber(redis.call('HGET', epoch, 'born') or 0) + 1)
local server = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
redis.call('HDEL', epoch, 'distrust')
redis.call('HSET', epoch, 'born', string.format('%.0f', born), 'id', id, 'slots', 0, 'server', server,
  'since', string.format('%.0f', now), 'underway_us', underway_us, 'why', why)
return {string.format('%.0f', born), id}

--- shift_stamps
-- Moves all future moments with the clock of Redis, which was set; no slot is given until endpoints were held.
-- KEYS[1]  lease    hash with the fencing token
-- KEYS[2]  current  id of the open run
-- KEYS[3]  run      hash of the run that was open when the clock was read: deadline_us
-- KEYS[4]  epoch    hash: shifted_us, by how much moments were ever moved; distrust, why windows cannot be trusted
-- KEYS[5]  releases list of the released calls; it is deleted, and they are released again
-- then     the health of each endpoint and budget: rest_until_us, held_until_us, paused_until_us, probe_until_us
-- then     the zsets by moment: backoff, and inflight, where a negative one has no slot yet
-- ARGV[1]  token
-- ARGV[2]  run id    of that run, or empty
-- ARGV[3]  shift_us  by how much, microseconds; negative: it was set back
-- ARGV[4]  healths   how many of the keys are healths
-- ARGV[5]  why       in words
-- Returns  how many moments were moved
-- Atomic because moving a lease twice, or only some of them, would make events be sent again.
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
