--- release_calls
-- Releases calls, which lanes make in the order of the list.
-- KEYS[1]  lease     hash with the fencing token
-- KEYS[2]  current   id of the open run
-- KEYS[3]  releases  list of the released calls, JSON as `Release` of rlm/ledger/turns.py
-- KEYS[4]  run       hash of that run
-- ARGV[1]  token
-- ARGV[2]  run id
-- ARGV[3]  when the run's first call is released, noted unless it is known already; or ''
-- ARGV[4..] the releases
-- Returns  how many calls are released now; 0 once the run ends, because ending it deletes the released calls
-- Atomic because a conductor that lost its lease must release nothing, and lanes take what is in the list.
local lease, current, releases, run = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local token, run_id = ARGV[1], ARGV[2]
-- include fence
if redis.call('GET', current) ~= run_id then return redis.error_reply('FENCED by another conductor') end
local conduct = redis.call('HMGET', run, 'state', 'cancelled')
if conduct[1] ~= 'running' or conduct[2] then return 0 end
if ARGV[3] ~= '' then redis.call('HSETNX', run, 'first_release_at', ARGV[3]) end
return redis.call('RPUSH', releases, unpack(ARGV, 4))

--- take_turn
-- Takes a lane's turn: settles the event it has completed, and claims its next one, with a slot if it is connected.
-- The next released call determines the type; its first pending event is claimed.
-- KEYS[1]  run       hash of the run
-- KEYS[2]  releases  list of the released calls
-- KEYS[3]  epoch     as in acquire_slot
-- KEYS[4]  limits    hash: name of an endpoint or a budget -> its limit in force
-- KEYS[5]  expected  hash: type and endpoint -> microseconds a call takes, microseconds it needs
-- KEYS[6]  calls     hash of the worker: event id -> its call
-- KEYS[7]  family    prefix of the hashes of events: the key of an event is this and its id
-- KEYS[8]  inflight  zset of the type of the event to settle; unused without one
-- KEYS[9]  tally     hash of the counts of that event's run
-- KEYS[10] timings   list of that run, for each completed call: endpoint, type, ms of the call, ms from its event's claim
--                    to its slot, time of its answer (microseconds of Redis time), ms from taking its event to its
--                    answer, ms that its lane was idle before it
-- KEYS[11] ways      as in fail_way
-- KEYS[12] well      as in fail_way, of the endpoint that answered
-- KEYS[13] hosts     likewise
-- ARGV[1]  worker
-- ARGV[2]  lane       the beginning of the note of its call: its number and a colon
-- ARGV[3]  run id     of the run to claim for; empty: claim nothing
-- ARGV[4]  revision   of the worker's configuration
-- ARGV[5]  connected  origins to which the lane has a connection, each between blanks
-- ARGV[6]  keep_us    how long slots are kept, at least
-- ARGV[7]  suspect    number of deaths from which on an event is carried alone
-- ARGV[8]  settled    id of the completed event; empty: none
-- ARGV[9]  claims     the number of its claim
-- ARGV[10] type       its type
-- ARGV[11] endpoint   the endpoint that answered
-- ARGV[12] times      milliseconds of the call, and from its event's claim to its slot
-- ARGV[13] idle_ms    from its lane's last answer to the sending of the call; 0 if there was none
-- ARGV[14] entry      for the event's trail: the call and its answer, JSON
-- ARGV[15] dedupe_ms  how long the event is remembered, to recognise duplicates
-- ARGV[16] reached    names of the endpoints that a turn named for a probe and its worker could connect to, likewise
-- ARGV[17] recent_us  how long the note is kept that the endpoint answered the worker's host; 0: no note
-- ARGV[18] server     run id of the server of this connection
-- Returns  {settled, why}: settled is 1, or 0 if the claim was no longer the worker's; why nothing is claimed: 'none': no
--          call is released; 'shut': the way of its host to the endpoints of all released calls is shut; 'over': the run
--          ends; 'revision': the worker must be replaced. Or {settled, 'probe', endpoint}: the way there was shut, and the
--          lane must connect before it gets a call there; no event waits for that. Else {settled, 'claimed', event id,
--          claims, type, endpoint, stamp, suspect, alone, remaining_us, begin_us, call_us, lease_us, wallet, item, attempt,
--          tries, runs, last}, and the name and the limit of each window of the slot. Without a slot, stamp is empty, and
--          there follow: the number of endpoints of the type, for each its name and what to expect, and for all that has
--          a limit its name and its limit or ''. suspect: as in acquire_slot; alone: 1 if the event must be carried alone;
--          remaining_us, begin_us: the time to the deadline, and the time within which the call must begin
-- Atomic because only one lane may claim an event, and a failed turn must not lose the lane's last answer.
local run, releases, epoch, limits, expected, calls, family, inflight, tally, timings, ways, well, hosts =
  KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[8], KEYS[9], KEYS[10], KEYS[11], KEYS[12], KEYS[13]
local worker, lane, run_id, revision, connected, keep_us = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6])
-- include now
-- include restamp_ahead
-- include younger
-- include old_slots
local stamp = string.format('%.0f', now)  -- tostring would lose digits
local trust = redis.pcall('HMGET', epoch, 'server', 'since', 'underway_us', 'ways')  -- on error: no slot, but it settles
-- include ways
-- include settle_completed
-- include first_event
-- include way_to
-- include reply_claim
-- include claim
local settled, left = ARGV[8] ~= '' and settle_completed(family .. ARGV[8]) or 0, {}
if type(settled) == 'table' then return settled end
if run_id == '' then return {settled, 'none'} end
-- include refusal
local function turned(reply)  -- calls that this host cannot make are left to others, in the same order
  for place = #left, 1, -1 do redis.call('LPUSH', releases, left[place]) end
  return reply
end
while trust[1] == ARGV[18] and #left < 50 do
  local raw = redis.call('LPOP', releases)
  if not raw then break end
  local read, release = pcall(cjson.decode, raw)
  local sound = read and type(release) == 'table' and type(release.of) == 'table'
  local why = sound and (release.run ~= run_id or release.of.revision ~= revision) and refusal()
  if why then  -- it is for another lane
    redis.call('LPUSH', releases, raw)
    return turned({settled, why})
  end
  local claimed = sound and claim(release)
  if claimed == 'shut' or (claimed and claimed[2] == 'probe') then left[#left + 1] = raw end
  if claimed and claimed ~= 'shut' then
    claimed[1] = settled
    return turned(claimed)
  end
end
return turned({settled, refusal() or (#left > 0 and 'shut' or 'none')})

--- claim
-- Claims the first event that waits for a released call, with a slot if the lane is connected.
-- Uses   the KEYS and ARGV of take_turn, and now, stamp, trust, first_event, way_to, probe_way, slots, reply_claim
-- Gives  claim(release)  the reply of take_turn, 'shut', or nil if the call cannot be made
local function claim(release)
  local of = release.of
  if release.run ~= run_id or now > release.void or now > release.begin then return end
  for _, one in ipairs(of.windows) do  -- its limit may have changed since the release
    if (redis.call('HGET', limits, one.name) or one.limit) ~= one.limit then return end
  end
  local event_id, told = first_event(of.pending)
  if not event_id then return end
  local tries = told[4] == run_id and told[8] or '0'
  local alone = tonumber(told[10] or 0) >= tonumber(ARGV[7])
  local avoided = of.endpoint == told[3] and tonumber(tries) > 0  -- it failed there; another endpoint may be free
  local way, barred = way_to(of, trust[4], avoided)
  if barred then return barred end
  -- A retry needs a fresh connection or another endpoint, so its slot is taken once that connection is open.
  local at = of.origin and string.find(connected, ' ' .. of.origin .. ' ', 1, true)  -- an older conductor names none
  local direct = not alone and tonumber(tries) == 0 and at
  local note, suspect, slots = lane .. (alone and '-' or ''), way and 1 or 0, {}
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
  if way then probe_way(way, of.windows[1].id, of.probe, 1) end
  local claims, lease = (tonumber(told[6]) or 0) + 1, of.lease * (alone and 2 or 1)  -- twice: the wait to be alone, too
  -- Writes that may be refused come first: a slot or a note without its event does no harm.
  redis.call('HSET', calls, event_id, note)
  for _, slot in ipairs(slots) do take_slot(slot, 1, stamp, of.probe) end
  redis.call('ZADD', of.inflight, string.format(direct and '%.0f' or '-%.0f', now + lease), event_id)  -- minus: no slot
  redis.call('ZREM', of.pending, event_id)
  redis.call('HSET', family .. event_id, 'owner', worker, 'claims', claims)
  return reply_claim(of, {0, 'claimed', event_id, claims, of.type, of.endpoint, direct and stamp or '', suspect,
    alone and 1 or 0, release.deadline - now, release.begin - now, release.call, lease, told[1], told[2], told[7] or '0',
    tries, told[9] or '0', told[3] or ''})
end

--- settle_completed
-- Settles the event that a lane has completed.
-- Uses   the KEYS and ARGV of take_turn, and time, now, stamp, trust, note_well
-- Gives  settle_completed(event)  1, 0 if its claim is no longer the lane's, or the error of Redis
local function settle_completed(event)
  local event_id, number, kind, endpoint = ARGV[8], ARGV[9], ARGV[10], ARGV[11]
  local told = redis.pcall('HMGET', event, 'owner', 'claims', 'taken_at', 'attempt', 'trail')
  if told.err then return told end
  local owned = told[1] == worker and told[2] == number
  if owned then  -- an error leaves everything unchanged, and the lane tries again
    local age_ms = string.format('%.0f', math.max(0, now / 1000 - (tonumber(told[3]) or now / 1000000) * 1000))
    redis.call('RPUSH', timings, table.concat({endpoint, kind, ARGV[12], stamp, age_ms, ARGV[13]}, ' '))
    local counted = redis.pcall('HINCRBY', tally, 'completed:' .. kind, 1)
    local removed = type(counted) == 'table' and counted or redis.pcall('ZREM', inflight, event_id)
    if removed ~= 1 then
      redis.call('RPOP', timings)
      if type(counted) ~= 'table' then redis.call('HINCRBY', tally, 'completed:' .. kind, -1) end
      if type(removed) == 'table' then return removed end
      owned = false
    end
  end
  if owned or told[1] ~= worker or told[2] == number then redis.call('HDEL', calls, event_id) end  -- keep a newer claim's
  if not owned then return 0 end
  redis.pcall('HINCRBY', tally, 'delivered:' .. endpoint, 1)  -- a count that is not a number is skipped
  local recent_us, host = tonumber(ARGV[17]), string.match(worker, '^[^:]*')
  if recent_us > 0 then
    -- A tenth of that time is often enough, unless calls fail somewhere: then the last answer decides whose trouble it is.
    local noted = not trust[4] and tonumber(redis.pcall('ZSCORE', well, host) or nil)
    if not noted or noted > now or now - noted > recent_us / 10 then note_well(well, hosts, host, recent_us) end
  end
  local dedupe_ms, written = tonumber(ARGV[15]), (tonumber(told[5]) or 0) + 1
  if dedupe_ms <= 0 then return redis.call('DEL', event) and 1 end
  redis.call('HSET', event, 'state', 'completed', 'last', endpoint, 'attempt', (tonumber(told[4]) or 0) + 1, 'trail',
    written, 't' .. written % 50, time[1] .. ' ' .. time[2] .. ' ' .. ARGV[14])
  redis.call('HDEL', event, 'item', 'owner')
  redis.call('PEXPIRE', event, dedupe_ms)
  return 1
end

--- first_event
-- Finds the first event of a type that can be sent; others get the last score, and the conductor condemns them.
-- Uses   family
-- Gives  first_event(pending)  its id, and {wallet, item, last, tries_in, score, claims, attempt, tries, runs, deaths}
local function first_event(pending)
  for _ = 1, 100 do
    local head = redis.call('ZRANGE', pending, 0, 0, 'WITHSCORES')
    if not head[1] or tonumber(head[2]) >= 9007199254740991 then return end
    local told = redis.pcall('HMGET', family .. head[1], 'wallet', 'item', 'last', 'tries_in', 'score', 'claims', 'attempt',
      'tries', 'runs', 'deaths', 'trail', 'unsent')
    local sound = not told.err and told[1] and told[2] and tonumber(told[5] or nil)
    for field = 6, 12 do
      sound = sound and (not told[field] or (#told[field] <= 15 and string.match(told[field], '^%d+$')))
    end
    if sound then return head[1], told end
    redis.call('ZADD', pending, '9007199254740991', head[1])
  end
end

--- refusal
-- Returns why a lane may claim nothing of a run. It is needed if nothing is released, because a run that ends deletes that.
-- Uses   run, revision
-- Gives  refusal()  'over', 'revision', or nil
local function refusal()
  local conduct = redis.call('HMGET', run, 'state', 'revision', 'cancelled')
  if conduct[1] ~= 'running' or conduct[3] then return 'over' end
  if conduct[2] ~= revision then return 'revision' end
end

--- way_to
-- Determines whether the lane's host may call an endpoint.
-- Uses   worker, ways, epoch, now, and what `ways` gives
-- Gives  way_to(of, any, avoided)  the way, nil if all is well; and what bars it: 'shut', or the reply that makes the lane
--        connect for a probe; any: whether any way is in trouble; avoided: the event should not go there
--        probe_way(way, window, probe_us, stage)  starts a probe for so long if it is one; stage: 2 to connect, 1 to call
local host
local function probe_way(way, window, probe_us, stage)
  if way.rest > 0 then
    way.till, way.probing = now + probe_us, stage
    write_way(ways, epoch, host, window, way)
  end
  if way.cut then  -- it tries one way every two seconds, whichever that is
    local state = redis.call('HGET', ways, host)
    redis.call('HSET', ways, host, (string.gsub(state, '%d+$', string.format('%.0f', now + 2000000))))
  end
end
local function way_to(of, any, avoided)
  if not any then return end
  host = string.match(worker, '^[^:]*')
  local cut = tonumber(string.match(redis.call('HGET', ways, host) or '', 'cut (%d+)'))
  local way = read_way(ways, host, of.windows[1].id) or (cut and {rest = 0})
  if not way then return end
  way.cut, way.probes = cut, cut or way.rest > 0
  if not way.probes then return way end
  local reached = string.find(ARGV[16], ' ' .. of.endpoint .. ' ', 1, true)
  local shut = way.rest > 0 and is_shut(way) and not (reached and way.probing == 2)
  shut = shut or (cut and cut > now and cut - now <= 3600000000 and not reached)
  if shut or avoided then return way, 'shut' end
  if not reached then  -- connect first, so that no event waits for the connection
    probe_way(way, of.windows[1].id, 2000000, 2)
    return way, {0, 'probe', of.endpoint}
  end
  return way
end

--- reply_claim
-- Builds the reply of a turn that has claimed an event.
-- Uses   expected, limits
-- Gives  reply_claim(of, claimed)  of: the terms of the release, claimed: the reply up to `last`
local function reply_claim(of, claimed)
  if claimed[7] ~= '' then
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
