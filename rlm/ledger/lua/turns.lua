--- release_calls(lease, current, releases, run; token, run_id, first_at, calls: json)
-- Releases calls, which lanes make in the order of the list.
-- lease     hash with the fencing token
-- current   id of the open run
-- releases  list of the released calls, JSON as `Release` of rlm/ledger/turns.py
-- run       hash of that run
-- token
-- run_id
-- first_at  when the run's first call is released, noted unless it is known already; or ''
-- calls     those to release, as they stand in the list
-- Returns   how many calls are released now; 0 once the run ends, because ending it deletes the released calls
-- Atomic because a conductor that lost its lease must release nothing, and lanes take what is in the list.
-- include fencing
if fenced(lease, token) or redis.call('GET', current) ~= run_id then return FENCED end
local state, cancelled = unpack(redis.call('HMGET', run, 'state', 'cancelled'))
if state ~= 'running' or cancelled then return 0 end
if first_at ~= '' then redis.call('HSETNX', run, 'first_release_at', first_at) end
return redis.call('RPUSH', releases, unpack(calls))

--- take_turn(run, releases, epoch, limits, expected, calls, inflight, tally, timings, ways, well, hosts;
---   worker, lane, run_id, revision, with_slot: number, reached: json, keep_us: number, suspect: number, family,
---   completed: json, dedupe_ms: number, server)
-- Takes a lane's turn: settles the event it has completed, and claims its next one.
-- The next released call determines the type; its first pending event is claimed.
-- run        hash of the run
-- releases   list of the released calls
-- epoch      as in acquire_slot
-- limits     hash: name of an endpoint or a budget -> its limit in force
-- expected   hash: type and endpoint -> microseconds a call takes, microseconds it needs
-- calls      hash of the worker: event id -> its call
-- inflight   zset of the type of the completed event; unused without one
-- tally      hash of the counts of that event's run
-- timings    list of that run, for each completed call: endpoint, type, ms of the call, ms from its event's claim
--            to its slot, time of its answer (microseconds of Redis time), ms from taking its event to its
--            answer, ms that its lane was idle before it
-- ways       as in fail_way
-- well       as in fail_way, of the endpoint that answered
-- hosts      likewise
-- worker     its id
-- lane       the beginning of the note of its call: its number and a colon
-- run_id     the run to claim for; empty: claim nothing
-- revision   of the worker's configuration
-- with_slot  1: a first attempt is claimed with its slot
-- reached    {ENDPOINT = true} that a turn named for a probe and the worker could connect to
-- keep_us    how long slots are kept, at least
-- suspect    number of deaths from which on an event is carried alone
-- family     prefix of the hashes of events: the key of an event is this and its id
-- completed  null, or the event to settle: {event_id, claims: the number of its claim, type, endpoint: that answered, times:
--            milliseconds of the call, and from its event's claim to its slot, idle_ms: from its lane's last answer to the
--            sending of the call, entry: for its trail, JSON, recent_us: how long it is noted that the endpoint answered the
--            worker's host, 0: not at all}
-- dedupe_ms  how long the event is remembered, to recognise duplicates
-- server     run id of the server of this connection
-- Returns    {settled}: 1, or 0 if the claim was no longer the worker's; and `why` nothing is claimed: 'none': no call is
--            released; 'shut': the way of its host to the endpoints of all released calls is shut; 'over': the run ends;
--            'revision': the worker must be replaced; 'probe', with `probe`: the way to that endpoint was shut, and the
--            lane must connect before it gets a call there; no event waits for that. Or a claim, see `begin_claim`.
-- Atomic because only one lane may claim an event, and a failed turn must not lose the lane's last answer.
-- include clock
-- include replies
-- include slots
-- include trust
-- include trail
-- include ways
local now, trust = now_us(), trust_of(epoch)
local host = string.match(worker, '^[^:]*')

-- Returns 1, 0 if the claim of the completed event is no longer the lane's, or the error of Redis.
local function settle_completed()
  local event_id, number, event = completed.event_id, completed.claims, family .. completed.event_id
  local record = redis.pcall('HMGET', event, 'owner', 'claims', 'taken_at', 'attempt', 'trail')
  if record.err then return record end
  local owner, claims, taken_at, attempt, trail = unpack(record, 1, 5)
  local owned = owner == worker and claims == number
  if owned then  -- an error leaves everything unchanged, and the lane tries again
    local age_ms = us(math.max(0, now / 1000 - (tonumber(taken_at) or now / 1000000) * 1000))
    redis.call('RPUSH', timings,
      table.concat({completed.endpoint, completed.type, completed.times, us(now), age_ms, completed.idle_ms}, ' '))
    local counted = redis.pcall('HINCRBY', tally, 'completed:' .. completed.type, 1)
    local removed = type(counted) == 'table' and counted or redis.pcall('ZREM', inflight, event_id)
    if removed ~= 1 then
      redis.call('RPOP', timings)
      if type(counted) ~= 'table' then redis.call('HINCRBY', tally, 'completed:' .. completed.type, -1) end
      if type(removed) == 'table' then return removed end
      owned = false
    end
  end
  if owned or owner ~= worker or claims == number then redis.call('HDEL', calls, event_id) end  -- keep a newer claim's
  if not owned then return 0 end
  redis.pcall('HINCRBY', tally, 'delivered:' .. completed.endpoint, 1)  -- a count that is not a number is skipped
  if completed.recent_us > 0 then
    -- A tenth of that time is often enough, unless calls fail somewhere: then the last answer decides whose trouble it is.
    local noted = not trust.ways and tonumber(redis.pcall('ZSCORE', well, host) or nil)
    if not noted or noted > now or now - noted > completed.recent_us / 10 then
      note_well(now, well, hosts, host, completed.recent_us)
    end
  end
  if dedupe_ms <= 0 then return redis.call('DEL', event) and 1 end
  local written = (tonumber(trail) or 0) + 1
  redis.call('HSET', event, 'state', 'completed', 'last', completed.endpoint, 'attempt', (tonumber(attempt) or 0) + 1,
    'trail', written, 't' .. written % 50, trail_entry(now, completed.entry))
  redis.call('HDEL', event, 'item', 'owner')
  redis.call('PEXPIRE', event, dedupe_ms)
  return 1
end

-- Returns why a lane may claim nothing of the run: 'over', 'revision', or nil. It is needed if nothing is released, because
-- a run that ends deletes that.
local function refusal()
  local state, wanted, cancelled = unpack(redis.call('HMGET', run, 'state', 'revision', 'cancelled'), 1, 3)
  if state ~= 'running' or cancelled then return 'over' end
  if wanted ~= revision then return 'revision' end
end

-- Returns whether a field of an event is a number, or missing.
local function is_count(value)
  return not value or (#value <= 15 and string.match(value, '^%d+$') ~= nil)
end
-- Returns the first event of a type that can be sent: {id, wallet, item, last, tries_in, claims, attempt, tries, runs,
-- deaths}; others get the last score, and the conductor condemns them.
local function first_event(pending)
  for _ = 1, 100 do
    local id, place = unpack(redis.call('ZRANGE', pending, 0, 0, 'WITHSCORES'))
    if not id or tonumber(place) >= 9007199254740991 then return end
    local wallet, item, last, tries_in, score, claims, attempt, tries, runs, deaths, trail, unsent = unpack(redis.pcall(
      'HMGET', family .. id, 'wallet', 'item', 'last', 'tries_in', 'score', 'claims', 'attempt', 'tries', 'runs',
      'deaths', 'trail', 'unsent'), 1, 12)
    if wallet and item and tonumber(score or nil) and is_count(claims) and is_count(attempt) and is_count(tries)
      and is_count(runs) and is_count(deaths) and is_count(trail) and is_count(unsent) then
      return {id = id, wallet = wallet, item = item, last = last or '', tries_in = tries_in, claims = claims or 0,
        attempt = attempt or '0', tries = tries or '0', runs = runs or '0', deaths = deaths or 0}
    end
    redis.call('ZADD', pending, '9007199254740991', id)
  end
end

-- Returns the way of the lane's host to the endpoint of a call, nil if all is well, and what bars it: 'shut', or 'probe': the
-- lane must connect first. avoided: the event should not go there.
local function way_to(of, avoided)
  if not trust.ways then return end
  local cut = tonumber(string.match(redis.call('HGET', ways, host) or '', 'cut (%d+)'))
  local way = read_way(ways, host, of.windows[1].id) or (cut and {rest = 0})
  if not way then return end
  way.cut, way.probes = cut, cut or way.rest > 0
  if not way.probes then return way end
  local shut = way.rest > 0 and is_shut(now, way) and not (reached[of.endpoint] and way.probing == 2)
  shut = shut or (cut and cut > now and cut - now <= 3600000000 and not reached[of.endpoint])
  if shut or avoided then return way, 'shut' end
  if not reached[of.endpoint] then return way, 'probe' end  -- so that no event waits for the connection
  return way
end
-- Starts a probe of a way for so long if it is one; stage: 2 to connect, 1 to call.
local function probe_way(way, window, probe_us, stage)
  if way.rest > 0 then
    way.till, way.probing = now + probe_us, stage
    write_way(ways, epoch, host, window, way)
  end
  if way.cut then  -- it tries one way every two seconds, whichever that is
    local state = redis.call('HGET', ways, host)
    redis.call('HSET', ways, host, (string.gsub(state, '%d+$', us(now + 2000000))))
  end
end

-- Claims the first event that waits for a released call, with a slot if it may have one. Returns the claim; else nil, and
-- what bars it if it is left to others. The claim: {event_id, claims, type, endpoint, remaining_us, begin_us: the time to the
-- deadline, and within which the call must begin, call_us, lease_us, wallet, item, attempt, tries, runs, last, suspect: as in
-- acquire_slot, alone: the event must be carried alone}. With a slot its `stamp`, and in `limits` names and limits of its
-- windows; else in `expected` the endpoints of the type with what to expect, and in `limits` all that have a limit.
local function begin_claim(release)
  local of = release.of
  if release.run ~= run_id or now > release.void or now > release.begin then return end
  for _, window in ipairs(of.windows) do  -- its limit may have changed since the release
    if (redis.call('HGET', limits, window.name) or window.limit) ~= window.limit then return end
  end
  local event = first_event(of.pending)
  if not event then return end
  local event_id, tries = event.id, event.tries_in == run_id and event.tries or '0'
  local alone = tonumber(event.deaths) >= suspect
  local avoided = of.endpoint == event.last and tonumber(tries) > 0  -- it failed there; another endpoint may be free
  local way, bar = way_to(of, avoided)
  if bar == 'probe' then probe_way(way, of.windows[1].id, 2000000, 2) end
  if bar then return nil, bar end
  -- A retry needs a fresh connection or another endpoint, so its slot is taken once that connection is open.
  local direct = with_slot == 1 and not alone and tonumber(tries) == 0
  local note, is_suspect, slots, stamp = lane .. (alone and '-' or ''), way ~= nil, {}, us(now)
  if direct then
    for index, window in ipairs(of.windows) do
      local wait, slot = ask_slot(now, window, 1, keep_us, trust)
      if wait > 0 then return end
      slots[index] = slot
      is_suspect = is_suspect or slot.suspect
      note = note .. (index == 1 and window.id .. '|' .. stamp .. '|' .. of.endpoint or '|' .. window.id)
    end
    redis.call('HINCRBY', epoch, 'slots', 1)
  end
  if way then probe_way(way, of.windows[1].id, of.probe, 1) end
  local claims, lease = tonumber(event.claims) + 1, of.lease * (alone and 2 or 1)  -- twice: the wait to be alone, too
  -- Writes that may be refused come first: a slot or a note without its event does no harm.
  redis.call('HSET', calls, event_id, note)
  for _, slot in ipairs(slots) do take_slot(now, slot, 1, of.probe) end
  redis.call('ZADD', of.inflight, us(direct and now + lease or -now - lease), event_id)  -- minus: no slot
  redis.call('ZREM', of.pending, event_id)
  redis.call('HSET', family .. event_id, 'owner', worker, 'claims', claims)
  local limits_told, times_told = {}, {}
  if direct then
    for _, window in ipairs(of.windows) do limits_told[window.name] = window.limit end
  else
    for _, name in ipairs(of.endpoints) do
      times_told[name] = redis.call('HGET', expected, of.type .. ' ' .. name) or nil
    end
    for _, name in ipairs(of.limited) do limits_told[name] = redis.call('HGET', limits, name) or nil end
  end
  return {'event_id', event_id, 'claims', claims, 'type', of.type, 'endpoint', of.endpoint, 'stamp', direct and stamp or '',
    'suspect', is_suspect and 1 or 0, 'alone', alone and 1 or 0, 'remaining_us', release.deadline - now, 'begin_us',
    release.begin - now, 'call_us', release.call, 'lease_us', lease, 'wallet', event.wallet, 'item', event.item, 'attempt',
    event.attempt, 'tries', tries, 'runs', event.runs, 'last', event.last, 'limits', named(limits_told), 'expected',
    named(times_told)}
end

local settled, left, answer = completed ~= cjson.null and settle_completed() or 0, {}, nil
if type(settled) == 'table' then return settled end
while run_id ~= '' and trust.server == server and #left < 50 do
  local raw = redis.call('LPOP', releases)
  if not raw then break end
  local read, release = pcall(cjson.decode, raw)
  if read and type(release) == 'table' and type(release.of) == 'table' then
    local why = (release.run ~= run_id or release.of.revision ~= revision) and refusal()
    if why then  -- it is for another lane
      redis.call('LPUSH', releases, raw)
      answer = {'why', why}
      break
    end
    local claim, bar = begin_claim(release)
    if bar then left[#left + 1] = raw end
    answer = claim or (bar == 'probe' and {'why', bar, 'probe', release.of.endpoint})
    if answer then break end
  end
end
for place = #left, 1, -1 do redis.call('LPUSH', releases, left[place]) end  -- left to other hosts, in the same order
answer = answer or {'why', run_id ~= '' and refusal() or (#left > 0 and 'shut' or 'none')}
answer[#answer + 1], answer[#answer + 2] = 'settled', settled
return answer
