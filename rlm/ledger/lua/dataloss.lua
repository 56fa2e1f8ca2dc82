--- vouch_server(lease, epoch; token, born: number, id, slots: number, new_id)
-- Vouches for a server that remembers every slot it is known to have given; only then are slots taken from it.
-- lease   hash with the fencing token
-- epoch   hash: born (microseconds of Redis time), id, server, slots, shifted_us, distrust, since
-- token   the caller's fencing token
-- born    of the epoch that the conductor knows, 0 if it knows none
-- id      of that epoch
-- slots   the number that it knows to have been taken in it, -1 if it does not know
-- new_id  for an epoch that begins here
-- Returns  {now_us, shifted_us, verdict, born, id, slots, why}: verdict: 'kept': this server was already vouched for;
--          'restarted': it was not, and is now; 'new': neither side knew anything; not vouched for: 'forgot': it lost slots,
--          or its windows are marked as untrustworthy; 'unknown': nobody can tell whether it lost any
-- Atomic because a slot may be taken in between, and two conductors may begin an epoch.
-- include fencing
-- include clock
-- include replies
if fenced(lease, token) then return FENCED end
local now, server = now_us(), string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
local fields = {'born', 'id', 'slots', 'server', 'shifted_us', 'distrust', 'since'}
local known = {}
for place, value in ipairs(redis.call('HMGET', epoch, unpack(fields))) do known[fields[place]] = value or nil end
local function answer(verdict, why)
  return named{
    now_us = now, shifted_us = tonumber(known.shifted_us) or 0, verdict = verdict, born = tonumber(known.born) or 0,
    id = known.id or '', slots = tonumber(known.slots) or 0, why = why or ''}
end
if not known.born then
  if born > 0 or known.distrust then return answer('forgot') end
  known.born, known.id, known.slots = us(now), new_id, 0
  redis.call('HSET', epoch, 'born', known.born, 'id', new_id, 'slots', 0, 'server', server)
  return answer('new')
end
local began, taken = tonumber(known.born), tonumber(known.slots)
local forgot = not began or not taken or taken < slots  -- what is no number was written by others
if not forgot and known.id ~= id then  -- an epoch begun by a conductor that knew the previous one has a `since`
  forgot = began <= born or (born > 0 and not known.since)
end
if forgot or known.distrust then
  redis.call('HDEL', epoch, 'server')
  return answer('forgot', not forgot and known.distrust)
end
if known.server == server then return answer('kept') end
if slots < 0 and (born > 0 or taken > 0) then return answer('unknown') end
redis.call('HSET', epoch, 'server', server)
return answer('restarted')

--- renew_epoch(lease, epoch; token, after: number, id, why, underway_us)
-- Begins a new epoch after windows could not be trusted; each is held until it can be, then slots are taken again.
-- lease        hash with the fencing token
-- epoch        hash: born (microseconds of Redis time), id, server, slots; and of this beginning: since, underway_us, why
-- token        the caller's fencing token
-- after        when the last known epoch was born; the new one is younger
-- id           of the new epoch
-- why          the windows cannot be trusted, in words
-- underway_us  how much longer than its longest period each window is held, microseconds
-- Returns  when the new epoch was born, microseconds of Redis time
-- Atomic because no slot may be taken between the hold and vouching for the server.
-- include fencing
-- include clock
if fenced(lease, token) then return FENCED end
local now = now_us()
local born = math.max(now, after + 1, (tonumber(redis.call('HGET', epoch, 'born') or nil) or 0) + 1)
local server = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
redis.call('HDEL', epoch, 'distrust')
redis.call('HSET', epoch, 'born', us(born), 'id', id, 'slots', 0, 'server', server,
  'since', us(now), 'underway_us', underway_us, 'why', why)
return born

--- shift_stamps(lease, current, run, epoch, releases; token, run_id, shift_us: number, why, healths: json, moments: json)
-- Moves all future moments with the clock of Redis, which was set; no slot is given until endpoints were held.
-- lease     hash with the fencing token
-- current   id of the open run
-- run       hash of the run that was open when the clock was read: deadline_us
-- epoch     hash: shifted_us, by how much moments were ever moved; distrust, why windows cannot be trusted
-- releases  list of the released calls; it is deleted, and they are released again
-- token     the caller's fencing token
-- run_id    of that run, or empty
-- shift_us  by how much, microseconds; negative: it was set back
-- why       in words
-- healths   hash of each endpoint and budget: rest_until_us, held_until_us, paused_until_us, probe_until_us
-- moments   the zsets by moment: backoff, and inflight, where a negative one has no slot yet
-- Returns  how many moments were moved
-- Atomic because moving a lease twice, or only some of them, would make events be sent again.
-- include fencing
-- include clock
if fenced(lease, token) then return FENCED end
redis.call('HDEL', epoch, 'server')
redis.call('HSET', epoch, 'distrust', why)
redis.call('HINCRBY', epoch, 'shifted_us', us(shift_us))
redis.call('DEL', releases)
local moved = 0
local function shift(key, field)
  local at = tonumber(redis.call('HGET', key, field) or nil)
  if not at then return end
  redis.call('HSET', key, field, us(at + shift_us))
  moved = moved + 1
end
if run_id ~= '' and redis.call('GET', current) == run_id then shift(run, 'deadline_us') end
for _, health in ipairs(healths) do
  for _, field in ipairs({'rest_until_us', 'held_until_us', 'paused_until_us', 'probe_until_us'}) do shift(health, field) end
end
for _, zset in ipairs(moments) do
  local entries = redis.call('ZRANGE', zset, 0, -1, 'WITHSCORES')
  for place = 1, #entries, 2 do
    local at = tonumber(entries[place + 1])
    redis.call('ZADD', zset, us(at < 0 and at - shift_us or at + shift_us), entries[place])
    moved = moved + 1
  end
end
return moved
