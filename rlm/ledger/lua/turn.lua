-- Moves events between ready, due and settled: an event is in exactly one of them at any instant. The zset `due` has `ID` of
-- an event in flight, by the end of its lease, and `later ID` of one that backs off, by its end.
local function lease_end(timeout, deadline) return math.min(now + timeout, deadline) + SLACK end
-- It waits again; behind: the others of its priority.
local function make_ready(id, behind)
  local event, kind = event_key(id), kind_of(id)
  local score = number(redis.pcall('HGET', event, 'score'))
  if behind then  -- its priority stays, its age becomes that of the newest arrival
    score = math.floor(score / PRIORITY_STEP) * PRIORITY_STEP + call('HINCRBY', P .. 'lease', 'sequence', 1)
    redis.pcall('HSET', event, 'score', score)
  end
  redis.pcall('HDEL', event, 'owner')
  line_up(kind, score, id)
  index(kind)
end
-- A call remains in the log, if it may have been sent, in the counts of its endpoint, and in the trail of its event, which keeps the
-- newest 50. made: as it is settled; record: of the event, with taken_at and trail; tried: empty if no attempt is spent.
local function note_call(run_id, made, record, tried)
  local id, endpoint, finish, calls = made.event_id, made.endpoint, made.finish, number(record.trail) + 1
  if made.sent then
    local age_ms = math.max(0, now / 1000 - 1000 * (tonumber(record.taken_at) or now / 1000000))
    local window = windows_of(endpoint)[1]
    try('XADD', P .. 'calls', 'MAXLEN', '~', 500000, '*', 'c', table.concat({run_id, kind_of(id), endpoint,
      window and window.id or '-', us(made.stamp), finish, made.took_ms or '0', us(age_ms), id, us(made.number)}, ' '))
  end
  count((finish == 'completed' and 'delivered:' or finish == 'throttled' and 'throttled:' or 'errors:') .. endpoint)
  if made.kind then count('trouble:' .. endpoint .. ' ' .. made.kind) end
  call('HSET', event_key(id), 'trail', calls, 't' .. calls % 50, us(now) .. ' ' .. made.entry, unpack{tried and 'tried', tried})
end
-- It is settled, and kept for `dedupe_ms` without its item to recognise duplicates; letter: of one that has failed.
local function retire(id, letter)
  local event = event_key(id)
  if letter then call('LPUSH', failed, letter) end
  count((letter and 'failed:' or 'completed:') .. kind_of(id))
  if dedupe_ms <= 0 or type(redis.pcall('HDEL', event, 'item', 'owner')) ~= 'number' then return call('DEL', event) end
  if letter then call('HSET', event, 'letter', redis.sha1hex(letter)) end
  call('PEXPIRE', event, dedupe_ms)
end
-- The claim of an event, with what a settlement needs of it; nil if no lane has it.
local function claimed(id)
  local values = redis.pcall('HMGET', event_key(id), 'claims', 'owner', 'trail', 'taken_at')
  local lane, stamp, endpoint = string.match(values[2] or '', '^(%S+ %d+) (%d+) (.*)$')
  return lane and {claims = values[1], lane = lane, stamp = stamp, endpoint = endpoint, trail = values[3], taken_at = values[4]}
end
-- What is known of an event's attempts: how many in all runs, in how many runs all of them, how many in the run named, where the last.
local function attempts(tried) return string.match((tried or '') .. ' 0 0 0 - -', '(%d+) (%d+) (%d+) (%S+) (%S+)') end
-- A claim ends without an answer: its call counts as sent now, for it may have been sent. The caller then moves the event.
local function revoke(id, text, kind)
  local record = claimed(id)
  call('ZREM', P .. 'due', id)
  if not record then return end
  local run_id, endpoint = call('HGET', P .. 'run', 'run_id') or '', record.endpoint
  local attempt, runs, tries, tried_in = attempts(call('HGET', event_key(id), 'tried'))
  stamp_call(endpoint, id .. ' ' .. record.claims, now)
  refresh(endpoint)
  local entry = cjson.encode{run_id, attempt + 1, endpoint, 'unknown', text, cjson.null, string.match(record.lane, '^[^: ]*')}
  note_call(run_id, {event_id = id, number = number(record.claims), endpoint = endpoint, stamp = number(record.stamp), sent = true,
    finish = 'unknown', kind = kind or 'worker lost', entry = entry}, record, table.concat({attempt + 1, runs, tries, tried_in, endpoint}, ' '))
end
local function put_back(member, text, kind)
  local later = string.match(member, '^later (.*)')
  if later then call('ZREM', P .. 'due', member) else revoke(member, text, kind) end
  make_ready(later or member)
end
-- Whether anything is or may get under way before the deadline: also what backs off until 2 s behind it, because the lease of a
-- call may end so late, and what is paused until somebody resumes it, which is later than any other moment.
local function may_go_on(deadline, opens_at, due_at)
  return math.min(opens_at, due_at - SLACK) <= deadline or call('ZCOUNT', P .. 'open', '(' .. us(FAR), '+inf') > 0
end

--- turn(prefix, failed; ask: data, dedupe_ms: number, server)
-- Settles the call that a lane has made, if any, and gives the lane its next call, with its slot.
-- ask      who asks, and what for: `Ask` of rlm/ledger/turns.py, and its `Settlement`, without what is empty
-- Returns  `TurnReply` of rlm/ledger/turns.py, without what is empty; and of a call the item, which need not be text
-- Atomic because only one lane may get an event and a slot, and because a lost reply must neither lose nor double a call.
local me, held, host = ask.worker .. ' ' .. ask.lane, P .. 'held:' .. ask.worker, string.match(ask.worker, '^[^:]*')
local run_id, revision, state, deadline, most, guard_us, cancelled, shares, barred, first_release_at = unpack(call('HMGET',
  P .. 'run', 'run_id', 'revision', 'state', 'deadline_us', 'most', 'guard_us', 'cancelled', 'shares', 'barred', 'first_release_at'), 1, 10)
deadline, running = tonumber(deadline or nil), state == 'running'  -- as `index` asks
local answer, gave_back = {now = now}, nil

-- Nothing is owned unless the run is running, so a call that is told late changes no more than its windows.
local function owned(id, number_of_claim)
  local record = running and claimed(id)
  return record and record.lane == me and tonumber(record.claims) == number_of_claim and record or nil
end

-- An answer ends a breaker's rest only if its call was claimed after that rest began, and a failure claimed before it does not
-- lengthen it (its stamp may have been moved since). A refusal begins a rest anew, so no answer to an earlier call ends the rest that a server asked for.
-- Returns whether only the way from this host is the trouble.
local function judge(made)
  local window = windows_of(made.endpoint)[1]
  local place = P .. 'endpoint:' .. (window and window.id or '')
  local was = window and try('HMGET', place, 'failures', 'since', 'well', 'rest')
  if not was or was.err then return end
  local since, well_at, well_host = tonumber(was[2] or nil), string.match(was[3] or '', '^(%d+) (.*)$')
  local after_rest = not since or made.number >= since
  if since and after_rest then call('HDEL', place, 'probe') end  -- the next may begin
  if made.health == 'well' then
    if well_host ~= host or now - well_at > 1000000 then call('HSET', place, 'well', us(now) .. ' ' .. host) end
    if (was[1] or since) and after_rest then
      call('HDEL', place, 'failures', 'refusals', 'rest', 'since', 'opened_us', 'failed_with')
      freed(made.endpoint)
      if since then wake('well') end
      answer.reopened = since and 1
    end
    return
  end
  local longest, rest = rule(made.endpoint).rest, nil  -- without the guard
  local function doubled(times) return math.min(longest, 1000000 * 2 ^ math.min(math.max(times, 0), 12)) end  -- an hour and more
  if made.health == 'refusal' then
    local refusals, wanted = after_rest and call('HINCRBY', place, 'refusals', 1) or 1, made.asked_us or 0
    if after_rest then call('HDEL', place, 'failures', 'opened_us', 'failed_with') end  -- it answers: no row of failures
    rest = math.max(wanted < 0 and window.rules[1][2] + longest - window.keep or wanted, refusals > 1 and doubled(refusals - 2) or 0)
    if after_rest then answer.rested = rest else rest = math.max(rest, number(was[4]) - now) end
  elseif made.health and after_rest then
    -- If another host succeeded there just now, the way from this one is the trouble, and not the endpoint.
    if made.unconnected and well_host and well_host ~= host and now - well_at < 10000000 then return true end
    local failures = call('HINCRBY', place, 'failures', 1)
    call('HSET', place, 'failed_with', made.kind or '')
    if failures >= FAILING or since then rest = doubled(failures - FAILING) end
    if failures >= FAILING and call('HSETNX', place, 'opened_us', now) == 1 then answer.opened = rest end
  end
  if rest then
    call('HSET', place, 'rest', now + rest, 'since', now)
    refresh(made.endpoint)
  end
end

local function settle(made)
  local id, endpoint, to, tried = made.event_id, made.endpoint, made.to, made.tried
  local name = id .. ' ' .. us(made.number)
  if made.counts_us then
    stamp_call(endpoint, name, now - made.counts_us)
    refresh(endpoint)
  end
  local record = owned(id, made.number)
  if not record then return 0 end
  if made.letter then call('LLEN', failed) end  -- if that is no list, it fails before anything is written
  if not made.sent then
    for _, window in ipairs(windows_of(endpoint)) do try('ZREM', P .. 'window:' .. window.id, name) end
    gave_back = endpoint
    for _, what in ipairs(shares and {'begun', 'begun:' .. kind_of(id)} or {}) do count(what, -1) end
  end
  if (made.health or not made.sent) and judge(made) then  -- it spends no attempt
    answer.elsewhere, gave_back = 1, endpoint  -- others may reach it
    to, tried = 'backoff', nil
  end
  if made.finish then note_call(run_id, made, record, tried) end
  call('ZREM', P .. 'due', id)
  if to == 'completed' or to == 'failed' then
    retire(id, made.letter)
  elseif to == 'ready' then
    make_ready(id)
  else
    call('HDEL', event_key(id), 'owner')
    call('ZADD', P .. 'due', to == 'spent' and '+inf' or now + (made.delay_us or 0), 'later ' .. id)
  end
  if gave_back then freed(gave_back) end
  return 1
end

local function done(name, value)  -- no call this time
  call('HSET', held, ask.lane, ask.n)
  if gave_back then wake('unsent') end
  answer[name] = value
  return {cmsgpack.pack(answer)}
end
local function look(id)
  return redis.pcall('HMGET', event_key(id), 'wallet', 'item', 'claims', 'tried', 'deaths')
end
local function give(id, claims, endpoint, stamp, record)
  local terms, attempt, runs, tries, tried_in = terms_of(endpoint, kind_of(id)) or {'', 0, 0}, attempts(record[4])
  answer.call = {event_id = id, number = claims, endpoint = endpoint, stamp = stamp, run_id = run_id, deadline_us = deadline,
    call_us = terms[2], need_us = terms[3], wallet_name = record[1] or '', attempt = number(attempt),
    tries = tried_in == run_id and number(tries) or 0, runs = number(runs), worker_id = ask.worker}
  return {cmsgpack.pack(answer), record[2] or ''}
end

-- The same ask repeats its answer, an older one does nothing, and a newer one gives back unsent what it did not settle.
local last = try('HGET', held, ask.lane) or '0'
if last.err then last = call('DEL', held) and '0' end  -- its claims come back when their leases end
local last_n, claims, endpoint, stamp, event = string.match(last, '^(%d+) (%d+) (%S+) (%d+) (.*)$')
last_n, claims = number(last_n or last), number(claims)
if ask.n < last_n then
  answer.stale = 1
  return {cmsgpack.pack(answer)}
elseif ask.n > last_n then
  local made = ask.settle
  if made then answer.settled = settle(made) end
  if event and not (made and made.event_id == event and made.number == claims) then
    settle{event_id = event, number = claims, endpoint = endpoint, stamp = tonumber(stamp), to = 'ready'}
  end
elseif event and owned(event, claims) then
  return give(event, claims, endpoint, stamp, look(event))
end

if ask.nothing then  -- nobody else knows what it settled: the run may be over, an event may wait again
  if ask.settle and not gave_back then wake('settled') end
  return done('nothing', 1)
end
if state == 'finishing' then  -- who was to close it may have died
  if now <= number(call('HGET', P .. 'run', 'ended_us')) + 1000000 then return done('wait', 1000000) end
  call('HSET', P .. 'run', 'ended_us', us(now))  -- one at a time, because it reads all calls of the run
  return done('close', run_id)
end
-- Nothing is given unless this is the server that is trusted, and its clock is where the asker expects it.
suspect(server, ask.epoch, ask.stepped, ask.expects)
if ask.epoch ~= trust().epoch then return done('epoch', trust().epoch) end
if not running then return done('over', 1) end
if revision ~= ask.revision then return done('outdated', 1) end
if math.abs(now - (ask.expects or 0)) > math.max(number(guard_us), 50000) then return done('clock', 1) end
if now > deadline + 300000 then return done('close', run_id) end
if cancelled or barred then return done('wait', deadline + 300001 - now) end  -- no call may begin

-- Whoever turns puts back what is overdue: leases that ended, back-offs that are over.
local due_at = first(P .. 'due')
if due_at <= now then
  for _, member in ipairs(call('ZRANGEBYSCORE', P .. 'due', '-inf', now, 'LIMIT', 0, 50)) do
    put_back(member, 'nobody knows: its lease ended before an answer', 'lease ended')
  end
  due_at = first(P .. 'due')
end

local function head(key)  -- of what may be used now, which scores 0, that of the lowest rank; else what may be used next
  local at, member = first(key)
  local opened = at > now and {} or call('ZRANGEBYSCORE', key, '(0', now, 'LIMIT', 0, 200)
  for _, each in ipairs(opened) do call('ZADD', key, 0, each) end
  if #opened > 0 then return first(key) end
  return at, member
end
local function preferred()  -- the open type that goes before the first, if one does
  for _, share in ipairs(shares and cjson.decode(shares) or {}) do  -- the first that has had less than its share of the run's calls
    local begun, member = call('HMGET', P .. 'tally', 'begun', 'begun:' .. share[1]), rule('type ' .. share[1])
    local is_owed = member and share[2] * (number(begun[1]) + 1) > number(begun[2])
    if is_owed and call('ZSCORE', P .. 'open', member) == '0' then return member end
  end
  local longest, length = nil, 0  -- of the first that are open
  for _, member in ipairs(most and call('ZRANGEBYSCORE', P .. 'open', 0, 0, 'LIMIT', 0, 50) or {}) do
    local ready = number(try('ZCARD', P .. 'ready:' .. string.match(member, ' (.*)')))
    if ready > length then longest, length = member, ready end
  end
  return longest
end
local function fits(name, kind)  -- whether a call there still ends in time
  local terms = terms_of(name, kind)
  return terms and now + terms[3] <= deadline
end
-- A slot is taken only if its windows are verified in this step: `free:` and `open` are lower bounds.
local opens_at, kind, name, ready, opens_next, failing
for _ = 1, 100 do
  local member, place, free
  opens_at, member = head(P .. 'open')
  if opens_at > now then break end
  kind = string.match((shares or most) and preferred() or member, ' (.*)')
  free, place = head(P .. 'free:' .. kind)
  name, ready = place and string.match(place, ' (.*)'), try('ZRANGE', P .. 'ready:' .. kind, 0, 1)
  if free > now or #ready == 0 then  -- no event either if it holds something else
    index(kind)
  elseif not fits(name, kind) then
    call('ZADD', P .. 'free:' .. kind, FAR, place)  -- no call there ends in time any more
    index(kind)
  else
    free, opens_next, failing = opens(name)
    if free <= now then break end
    opens_next = nil
    refresh(name, free)
  end
end
if not opens_next then
  if opens_at <= now then return done('wait', 1000) end
  if not (may_go_on(deadline, opens_at, due_at) or call('HGET', P .. 'run', 'draining')) then return done('close', run_id) end
  return done('wait', math.max(0, math.min(deadline + 300001, due_at, opens_at) - now))
end

local function avoids(record)  -- whether the event has just failed there
  local _, _, tries, tried_in, last = attempts(record[4])
  return last == name and tried_in == run_id and number(tries) > 0
end
local id, record = ready[1], look(ready[1])
-- It waits for another endpoint, if there is one that takes calls before the deadline.
local waits = avoids(record) and call('ZCOUNT', P .. 'free:' .. kind, '-inf', us(deadline)) > 1
for _, other in ipairs(waits and call('ZRANGE', P .. 'ready:' .. kind, 1, 7) or {}) do
  local its = look(other)
  if not avoids(its) then
    id, record = other, its
    break
  end
end
-- If all of the first have, the first goes to another endpoint if one is free, else there anyway.
for _, place in ipairs(avoids(record) and call('ZRANGEBYSCORE', P .. 'free:' .. kind, '-inf', now, 'LIMIT', 0, 8) or {}) do
  local other = string.match(place, ' (.*)')
  local free, after, fails = opens(other)
  if other ~= name and fits(other, kind) and free <= now then
    name, opens_next, failing = other, after, fails
    break
  end
end
-- An event that was with two workers as they died is called alone, so that only the one that kills dies a last time.
if number(record[5]) >= 2 then
  local other = call('HGET', P .. 'run', 'apart')
  if other and claimed(other) then
    call('ZREM', P .. 'ready:' .. kind, id)
    call('ZADD', P .. 'due', now + 1000000, 'later ' .. id)
    index(kind)
    return done('wait', 1000)
  end
  call('HSET', P .. 'run', 'apart', id)
end
if record.err then call('DEL', event_key(id)) end  -- it holds no event; the lane makes a dead letter of it
local of, at = rule(name), us(now)
-- The number of a claim is its moment: no other has it, even if the event was forgotten since, and came again.
claims = us(math.max(now, number(record[3]) + 1))
stamp_call(name, id .. ' ' .. claims, now)
if failing then call('HSET', P .. 'endpoint:' .. of.windows[1].id, 'probe', now + of.timeout + SLACK) end  -- one at a time
call('ZREM', P .. 'ready:' .. kind, id)
call('ZADD', P .. 'due', lease_end(of.timeout, deadline), id)
call('HSET', event_key(id), 'claims', claims, 'owner', me .. ' ' .. at .. ' ' .. name)
call('HSET', held, ask.lane, us(ask.n) .. ' ' .. claims .. ' ' .. name .. ' ' .. at .. ' ' .. id)
if not first_release_at then call('HSET', P .. 'run', 'first_release_at', now / 1000000) end
for _, what in ipairs(shares and {'begun', 'begun:' .. kind} or {}) do count(what) end
if opens_next > now then
  refresh(name, opens_next)
elseif #ready == 1 then  -- otherwise nothing changes in the index
  index(kind)
end
if gave_back and gave_back ~= name then wake('unsent') end
return give(id, claims, name, now, record)

--- restamp(prefix; event_id, claims, endpoint)
-- The call leaves now, later than it was stamped: its slot and its lease count from now.
-- Returns  that moment; 0: the event is no longer the lane's
-- Atomic because the slot must count from one moment or the other, whoever has the event.
stamp_call(endpoint, event_id .. ' ' .. claims, now)
refresh(endpoint)
local record = claimed(event_id)
if not record or record.claims ~= claims then return 0 end
-- Its time-out counts from now, and so does its lease.
call('HSET', event_key(event_id), 'owner', record.lane .. ' ' .. us(now) .. ' ' .. endpoint)
local of, deadline = rule(endpoint), tonumber(call('HGET', P .. 'run', 'deadline_us') or nil)
if of and deadline then call('ZADD', P .. 'due', 'XX', lease_end(of.timeout, deadline), event_id) end
return now
