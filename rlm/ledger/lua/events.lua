--- release_calls
-- Releases calls: the lanes make them, the first of the list first.
-- KEYS[1]  lease     hash with the fencing token
-- KEYS[2]  current   id of the open run
-- KEYS[3]  releases  list of the calls that are released, JSON as `Terms` of rlm/ledger/claims.py writes it
-- KEYS[4]  run       hash of that run
-- ARGV[1]  token
-- ARGV[2]  run id
-- ARGV[3..] the releases
-- Returns  how many calls are released by now; 0 once the run ends: whoever ends it deletes what is released
-- Atomic because a conductor that lost its lease must release nothing, and lanes take what stands there unasked.
local lease, current, releases, run = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local token, run_id = ARGV[1], ARGV[2]
-- include fence
if redis.call('GET', current) ~= run_id then return redis.error_reply('FENCED by another conductor') end
local conduct = redis.call('HMGET', run, 'state', 'cancelled')
if conduct[1] ~= 'running' or conduct[2] then return 0 end
return redis.call('RPUSH', releases, unpack(ARGV, 3))

--- take_turn
-- Takes a lane's turn: settles the event it has completed, and claims its next one, with a slot if it is connected.
-- The next released call says of what type; the first pending event of it is claimed.
-- KEYS[1]  run       hash of the run
-- KEYS[2]  releases  list of the calls that are released
-- KEYS[3]  epoch     as in acquire_slot
-- KEYS[4]  limits    hash: name of an endpoint or a budget -> its limit in force
-- KEYS[5]  expected  hash: type and endpoint -> microseconds a call takes, microseconds it needs
-- KEYS[6]  calls     hash of the worker: event id -> its call
-- KEYS[7]  family    of the hashes of events: the key of one is this and its id
-- KEYS[8]  inflight  zset of the type of the event that is settled; unused without one
-- KEYS[9]  tally     hash of the counts of that event's run
-- KEYS[10] timings   list of that run, for each completed call: endpoint, type, milliseconds that it took, milliseconds
--                    from its event's claim to its slot, microseconds of Redis time of its answer, milliseconds from
--                    when its event was taken to its answer, milliseconds its lane was idle before it
-- ARGV[1]  worker
-- ARGV[2]  lane       what begins the note of its call: its number and a colon
-- ARGV[3]  run id     of the run to claim for; empty: claim nothing
-- ARGV[4]  revision   of the worker's configuration
-- ARGV[5]  connected  names of the endpoints that the lane has a connection to, a blank before and after each
-- ARGV[6]  keep_us    how long slots are kept, at least
-- ARGV[7]  suspect    number of deaths from which on an event is carried alone
-- ARGV[8]  settled    id of the event that is completed; empty: none
-- ARGV[9]  claims     the number of its claim
-- ARGV[10] type       of it
-- ARGV[11] endpoint   that answered
-- ARGV[12] times      milliseconds that the call took, and from its event's claim to its slot
-- ARGV[13] idle_ms    from its lane's last answer to when the call was sent; 0 if it had none
-- ARGV[14] entry      of the event's trail: the call and its answer, JSON
-- ARGV[15] dedupe_ms  how long the event is remembered, to recognise duplicates
-- ARGV[16] server     run id of the server that this connection leads to
-- Returns  {settled, why}: settled is 1, or 0 if the claim was no longer the worker's; why nothing is claimed: 'none' is
--          released, 'over' is the run, 'revision': the worker must be replaced. Else {settled, 'claimed', event id,
--          claims, type, endpoint, stamp, suspect, alone, remaining_us, begin_us, call_us, lease_us, wallet, item,
--          attempt, tries, runs, last}: what follows is the name and the limit of each window that the slot was taken in.
--          Without a slot stamp is empty, and what follows is the number of endpoints of the type, the name of each and
--          what to expect of it, and the name and the limit of all that has one there, or empty; suspect as in
--          acquire_slot; alone is 1 if the event is to be carried alone; remaining_us and begin_us are the time to the
--          deadline, and to when the call must have begun
-- Atomic because only one lane may claim an event, and a lane without its last answer written must not lose it.
local run, releases, epoch, limits, expected, calls, family, inflight, tally, timings =
  KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[8], KEYS[9], KEYS[10]
local worker, lane, run_id, revision, connected, keep_us = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6])
-- include now
-- include restamp_ahead
-- include younger
-- include slots
local stamp = string.format('%.0f', now)  -- tostring would lose digits
-- include settle_completed
-- include first_event
local function claim(release, trust)
  local of = release.of
  if release.run ~= run_id or now > release.void or now > release.begin then return end
  for _, one in ipairs(of.windows) do  -- it was released by a limit that has changed since
    if (redis.call('HGET', limits, one.name) or one.limit) ~= one.limit then return end
  end
  local event_id, told = first_event(of.pending)
  if not event_id then return end
  local tries = told[4] == run_id and told[8] or '0'
  local alone = tonumber(told[10] or 0) >= tonumber(ARGV[7])
  local avoided = of.endpoint == told[3] and tonumber(tries) > 0  -- it failed there: another one may be free
  local direct = not alone and not avoided and string.find(connected, ' ' .. of.endpoint .. ' ', 1, true)
  local note, suspect, slots = lane .. (alone and '-' or ''), 0, {}
  if direct then
    for index, one in ipairs(of.windows) do
      local wait, slot = ask_slot(one.window, one.health, 1, one.rules, keep_us, trust)
      if wait > 0 then return end
      slots[index] = slot
      if slot.suspect then suspect = 1 end
      note = note .. (index == 1 and one.id .. '|' .. stamp .. '|' .. of.endpoint or '|' .. one.id)
    end
    redis.call('HINCRBY', epoch, 'slots', 1)
  end
  local claims = (tonumber(told[6]) or 0) + 1
  local lease = string.format('%.0f', now + of.lease * (alone and 2 or 1))  -- one that is carried alone may wait as long
  -- What may be refused comes first: a slot or a note without its event does no harm.
  redis.call('HSET', calls, event_id, note)
  for _, slot in ipairs(slots) do take_slot(slot, 1, stamp, of.probe) end
  redis.call('ZADD', of.inflight, direct and lease or '-' .. lease, event_id)  -- negative: it has no slot yet
  redis.call('ZREM', of.pending, event_id)
  redis.call('HSET', family .. event_id, 'owner', worker, 'claims', claims)
  local claimed = {0, 'claimed', event_id, claims, of.type, of.endpoint, direct and stamp or '', suspect, alone and 1 or 0,
    string.format('%.0f', release.deadline - now), string.format('%.0f', release.begin - now), release.call,
    of.lease * (alone and 2 or 1), told[1], told[2], told[7] or '0', tries, told[9] or '0', told[3] or ''}
  if direct then
    for _, one in ipairs(of.windows) do claimed[#claimed + 1], claimed[#claimed + 2] = one.name, one.limit end
    return claimed
  end
  claimed[#claimed + 1] = #of.endpoints
  for _, name in ipairs(of.endpoints) do
    claimed[#claimed + 1], claimed[#claimed + 2] = name, redis.call('HGET', expected, of.type .. ' ' .. name) or ''
  end
  for _, name in ipairs(of.limited) do
    claimed[#claimed + 1], claimed[#claimed + 2] = name, redis.call('HGET', limits, name) or ''
  end
  return claimed
end
local settled = ARGV[8] ~= '' and settle_completed(family .. ARGV[8]) or 0
if type(settled) == 'table' then return settled end
if run_id == '' then return {settled, 'none'} end
-- include refusal
local trust = redis.call('HMGET', epoch, 'server', 'since', 'underway_us')
while trust[1] == ARGV[16] do
  local raw = redis.call('LPOP', releases)
  if not raw then break end
  local read, release = pcall(cjson.decode, raw)
  local sound = read and type(release) == 'table' and type(release.of) == 'table'
  local why = sound and (release.run ~= run_id or release.of.revision ~= revision) and refusal()
  if why then  -- it is another lane's
    redis.call('LPUSH', releases, raw)
    return {settled, why}
  end
  local claimed = sound and claim(release, trust)
  if claimed then
    claimed[1] = settled
    return claimed
  end
end
return {settled, refusal() or 'none'}

--- begin_alone
-- Begins to carry an event alone that its lane has waited with: from now on the death of its worker counts.
-- KEYS[1]  calls     hash of the worker: event id -> its call
-- ARGV[1]  event id
-- ARGV[2]  lane      what begins the note of its call
-- Returns  1 begun, 0 it was taken back meanwhile
-- Atomic because it may be taken back at the same moment.
local noted = redis.call('HGET', KEYS[1], ARGV[1])
if noted ~= ARGV[2] .. '-' and noted ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 1

--- fail_event
-- Settles an event as failed: it becomes a dead letter.
-- KEYS[1]  event     hash of the event
-- KEYS[2]  inflight  zset of its type
-- KEYS[3]  calls     hash of the worker: event id -> its call
-- KEYS[4]  tally     hash of the run's counts
-- KEYS[5]  failed    the list of dead letters
-- ARGV[1]  event id
-- ARGV[2]  worker
-- ARGV[3]  claims       the number of its claim
-- ARGV[4]  type
-- ARGV[5]  endpoint     name of the endpoint that was called
-- ARGV[6]  failing      '1' if the endpoint failed for the moment, '0' if it answered that it does not want it
-- ARGV[7]  dedupe_ms    how long the event is remembered, to recognise duplicates
-- ARGV[8]  letter       the dead letter, JSON
-- ARGV[9]  entry        of the event's trail: the call and its answer, JSON
-- ARGV[10] kind         the word in which the answer is counted among the run's troubles, or empty
-- Returns  1 settled, 0 the claim was no longer the worker's and nothing was changed
-- Atomic because the letter and the event must never exist both, nor neither.
-- include append_trail
-- include settle_event
local event, inflight, calls, tally, failed = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local event_id, worker, number, type, endpoint, failing, dedupe_ms, letter, entry, kind =
  ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], tonumber(ARGV[7]), ARGV[8], ARGV[9], ARGV[10]
local claim = redis.call('HMGET', event, 'owner', 'claims')
-- include lost_claim
if not redis.call('ZSCORE', inflight, event_id) then return 0 end
redis.call('LLEN', failed)  -- what is refused is so before anything is changed
redis.call('HINCRBY', tally, 'failed:' .. type, 1)
redis.call('ZREM', inflight, event_id)
redis.call('LPUSH', failed, letter)
redis.call('HINCRBY', tally, 'errors:' .. endpoint, 1)
if failing == '1' then redis.call('HINCRBY', tally, 'failing:' .. type .. ' ' .. endpoint, 1) end
if kind ~= '' then redis.call('HINCRBY', tally, 'trouble:' .. endpoint .. ' ' .. kind, 1) end
redis.call('HSET', event, 'last', endpoint)
redis.call('HINCRBY', event, 'attempt', 1)
append_trail(event, entry)
redis.call('HSET', event, 'letter', redis.sha1hex(letter))  -- which alone may have it forgotten
settle_event(event, 'failed', dedupe_ms)
return 1

--- return_event
-- Gives a claimed event back unsettled: to be sent again now, after a back-off, or in the next run.
-- KEYS[1]  event     hash of the event
-- KEYS[2]  inflight  zset of its type
-- KEYS[3]  calls     hash of the worker: event id -> its call
-- KEYS[4]  tally     hash of the run's counts
-- KEYS[5]  target    pending, backoff or spent zset of its type
-- ARGV[1]  event id
-- ARGV[2]  worker
-- ARGV[3]  claims       the number of its claim
-- ARGV[4]  run id
-- ARGV[5]  target       'pending', 'backoff' or 'spent'
-- ARGV[6]  delay_us     for backoff: from now until it is pending again, microseconds
-- ARGV[7]  answer       '' no call was made, 'throttled' or 'errors'
-- ARGV[8]  endpoint     name of the endpoint called
-- ARGV[9]  failing      type of the event if the endpoint failed for the moment, else empty
-- ARGV[10] entry        of the event's trail: the call and its answer, JSON; unused if no call was made
-- ARGV[11] kind         the word in which the answer is counted among the run's troubles, or empty
-- Returns  1 given back, 0 the claim was no longer the worker's and nothing was changed
-- Atomic because a worker given up for dead may come back after its event went to another.
-- include append_trail
local event, inflight, calls, tally, target = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local event_id, worker, number, run_id, where, delay_us, answer, endpoint, failing, entry, kind =
  ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6]), ARGV[7], ARGV[8], ARGV[9], ARGV[10], ARGV[11]
local claim = redis.call('HMGET', event, 'owner', 'claims', 'score', 'tries_in')
-- include lost_claim
redis.call('ZCARD', target)  -- what is refused is so before anything is changed
redis.call('HLEN', tally)
if redis.call('ZREM', inflight, event_id) == 0 then return 0 end
redis.call('HDEL', event, 'owner')
-- include now
local score = where == 'backoff' and string.format('%.0f', now + delay_us) or claim[3]
redis.call('ZADD', target, score, event_id)
if answer ~= '' then
  redis.call('HINCRBY', tally, answer .. ':' .. endpoint, 1)
  redis.call('HSET', event, 'last', endpoint)
  append_trail(event, entry)
else
  redis.call('HINCRBY', event, 'unsent', 1)
  redis.call('HINCRBY', tally, 'unsent:' .. string.match(event_id, '[^:]*$'), 1)
end
if failing ~= '' then redis.call('HINCRBY', tally, 'failing:' .. failing .. ' ' .. endpoint, 1) end
if kind ~= '' then redis.call('HINCRBY', tally, 'trouble:' .. endpoint .. ' ' .. kind, 1) end
if answer == 'errors' then
  redis.call('HINCRBY', event, 'attempt', 1)
  if claim[4] ~= run_id then redis.call('HSET', event, 'tries_in', run_id, 'tries', '0') end
  redis.call('HINCRBY', event, 'tries', 1)
end
if where == 'spent' then redis.call('HINCRBY', event, 'runs', 1) end
return 1
