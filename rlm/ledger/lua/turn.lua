--- turn(prefix, failed; ask: json, server)
-- Settles the call that a lane has made, if any, and gives the lane its next call, with its slot.
-- ask      who asks, and what for: `Ask` of rlm/ledger/turns.py, and its `Settlement`, without what is empty
-- Returns  `TurnReply` of rlm/ledger/turns.py, without what is empty; and of a call the item, which need not be text
-- Atomic because only one lane may get an event and a slot, and because a lost reply must neither lose nor double a call.
-- include moving
-- include doubt
local now = now_us()
local me, held = ask.worker .. ' ' .. ask.lane, P .. 'held:' .. ask.worker
local run = call('HMGET', P .. 'run', 'run_id', 'revision', 'state', 'deadline_us', 'most', 'guard_us', 'draining',
  'cancelled', 'shares', 'barred', 'first_release_at', 'ended_us')
local run_id, state, deadline, shares, gave_back = run[1], run[3], tonumber(run[4] or nil), run[9], nil
local answer = {now = now}
running = state == 'running'  -- as `index` asks

-- Nothing is owned unless the run is running, so a call that is told late changes no more than its windows.
local function owned(event, claims)
  local record = redis.pcall('HMGET', event, 'owner', 'claims', 'taken_at', 'tries_in', 'tries', 'attempt', 'trail', 'runs')
  if record.err or not running or record[1] ~= me or tonumber(record[2]) ~= claims then return end
  return record
end

-- An answer ends a breaker's rest only if its call was stamped after that rest began, and a failure stamped before it does not
-- lengthen it. The rest that a server asked for ends by itself. Returns whether only the way from this host is the trouble.
local function judge(made)
  local window = (made.well or made.sick) and window_of(made.endpoint)
  local place = P .. 'endpoint:' .. (window or '')
  local was = window and try('HMGET', place, 'failures', 'since', 'well', 'refusals')
  if not was or was.err then return end
  local since = tonumber(was[2] or nil)
  local after_rest = not since or made.stamp >= since
  local well_at, well_host = string.match(was[3] or '', '^(%d+) (.*)$')
  if made.well then
    if well_host ~= ask.host or now - well_at > 1000000 then call('HSET', place, 'well', us(now) .. ' ' .. ask.host) end
    if (was[1] or since or was[4]) and after_rest then
      call('HDEL', place, 'failures', 'refusals', 'rest', 'since', 'failed_with')
      freed(now, made.endpoint)
      wake('well')
      if since then answer.reopened = 1 end
    end
    return
  end
  local most = rules_of(made.endpoint).rest
  local function rest_of(doubled) return math.min(most, 1000000 * 2 ^ math.min(math.max(doubled, 0), 30)) end
  if made.sick == 'refusal' then
    local refusals, wanted = after_rest and call('HINCRBY', place, 'refusals', 1) or 1, made.asked_us or 0
    local asked = now + math.max(wanted < 0 and most or wanted, refusals > 1 and rest_of(refusals - 2) or 0)
    call('HSET', place, 'asked', math.max(asked, number(call('HGET', place, 'asked'))))
    if after_rest then
      call('HDEL', place, 'rest')  -- it was the probe, and is answered
      call('HSET', place, 'since', now)
      answer.rested = asked - now
    end
    refresh(now, made.endpoint)
  elseif after_rest then
    -- If another host succeeded there just now, the way from this one is the trouble, and not the endpoint.
    if made.unconnected and well_host and well_host ~= ask.host and now - well_at < 10000000 then return true end
    local failures = call('HINCRBY', place, 'failures', 1)
    call('HSET', place, 'failed_with', made.why or '')
    if failures >= FAILING or since then
      local rest = rest_of(failures - FAILING)
      call('HSET', place, 'rest', now + rest, 'since', now)
      if failures == FAILING then
        call('HSET', place, 'opened_us', now)
        answer.opened = rest
      end
      refresh(now, made.endpoint)
    end
  end
end

local function settle(made)
  local id, event, endpoint, claims = made.event, event_key(made.event), made.endpoint, us(made.claims)
  local name, kind = id .. ' ' .. claims, kind_of(id)
  if made.counts_us then
    stamp_call(endpoint, name, now - made.counts_us)
    refresh(now, endpoint)
  end
  local record = owned(event, made.claims)
  if not record then return 0 end
  if not made.sent then
    for _, window in ipairs(windows_of(endpoint)) do try('ZREM', P .. 'window:' .. window.id, name) end
    gave_back = endpoint
    if shares then
      count('begun', -1)
      count('begun:' .. kind, -1)
    end
    local of = rules_of(endpoint)
    if of and try('HGET', P .. 'endpoint:' .. of.window, 'rest') == us(made.stamp + of.probe) then
      call('HDEL', P .. 'endpoint:' .. of.window, 'rest')  -- a probe that was not made gives way to the next
    end
  end
  local to, delay_us, spends, tried = made.to, made.delay_us or 0, made.spends, made.tried
  if judge(made) then  -- it spends no attempt
    answer.elsewhere = 1
    to, delay_us, spends, tried = 'backoff', made.delay_us or 500000, nil, nil
  end
  local fields = {}
  local function write(field, value) fields[#fields + 1], fields[#fields + 2] = field, value end
  if made.finish then
    if made.sent then
      log_call(now, run_id, id, made.finish, made.took_ms or '0', tonumber(record[3] or nil), endpoint, claims, us(made.stamp))
    end
    local counted = made.finish == 'completed' and 'delivered:' or made.finish == 'throttled' and 'throttled:' or 'errors:'
    count(counted .. endpoint)
    if made.kind then count('trouble:' .. endpoint .. ' ' .. made.kind) end
    local calls = number(record[7]) + 1
    fields = {'last', endpoint, 'trail', calls, 't' .. calls % 50, trail_entry(now, made.entry)}
    if tried then write('attempt', number(record[6]) + 1) end
  end
  if spends then
    write('tries_in', run_id)
    write('tries', record[4] == run_id and number(record[5]) + 1 or 1)
  end
  if to == 'spent' then write('runs', number(record[8]) + 1) end
  if to == 'completed' then write('state', 'completed') end
  if fields[1] then call('HSET', event, unpack(fields)) end
  call('ZREM', P .. 'due', id)
  if to == 'completed' then
    count('completed:' .. kind)
    if ask.dedupe_ms > 0 then
      call('HDEL', event, 'item', 'owner')
      call('PEXPIRE', event, ask.dedupe_ms)
    else
      call('DEL', event)
    end
  elseif to == 'failed' then
    bury(failed, id, made.letter, ask.dedupe_ms)
  elseif to == 'ready' then
    if not made.finish then
      call('HINCRBY', event, 'unsent', 1)
      count('unsent:' .. kind)
    end
    make_ready(id)
  else
    call('HDEL', event, 'owner')
    call('ZADD', P .. 'due', to == 'spent' and '+inf' or now + delay_us, 'later ' .. id)
  end
  if gave_back then freed(now, gave_back) end
  return 1
end

local function done(name, value)  -- no call this time
  call('HSET', held, ask.lane, ask.n)
  if gave_back then wake('unsent') end
  answer[name] = value
  return {cmsgpack.pack(answer)}
end
local function look(id)
  local record = redis.pcall('HMGET', event_key(id), 'wallet', 'item', 'attempt', 'tries', 'tries_in', 'runs', 'last', 'claims')
  return record.err and {broken = true} or record
end
local function give(id, claims, endpoint, stamp, kind, record)
  local terms = terms_of(endpoint, kind) or {'', 0, 0}
  local made = {event = id, claims = claims, endpoint = endpoint, stamp = stamp, wallet = record[1] or '',
    attempt = record[3] or 0, tries = record[5] == run_id and record[4] or 0, runs = record[6] or 0, run_id = run_id,
    deadline_us = deadline, call_us = terms[2], need_us = terms[3]}
  for name, value in pairs(answer) do made[name] = value end
  return {cmsgpack.pack(made), record[2] or ''}
end

-- The same ask repeats its answer, an older one does nothing, and a newer one gives back unsent what it did not settle.
local last = call('HGET', held, ask.lane) or '0'
local last_n, claims, endpoint, stamp, event = string.match(last, '^(%d+) (%d+) (%S+) (%d+) (.*)$')
last_n = number(last_n or last)
if ask.n < last_n then
  answer.stale = 1
  return {cmsgpack.pack(answer)}
elseif ask.n > last_n then
  local made = ask.settle
  if made then answer.settled = settle(made) end
  if event and not (made and made.event == event and made.claims == tonumber(claims)) then
    settle{event = event, claims = tonumber(claims), endpoint = endpoint, stamp = tonumber(stamp), to = 'ready', sent = false}
  end
elseif event and owned(event_key(event), tonumber(claims)) then
  return give(event, claims, endpoint, stamp, kind_of(event), look(event))
end

if ask.nothing then  -- nobody else knows what it settled: the run may be over, an event may wait again
  if ask.settle and not gave_back then wake('settled') end
  return done('nothing', 1)
end
local function close()
  answer.deadline_us = deadline
  return done('close', run_id)
end
if state == 'finishing' then  -- who was to close it may have died
  if now > number(run[12]) + 1000000 then return close() end
  return done('wait', 1000000)
end
if not running then return done('over', 1) end
if run[2] ~= ask.revision then return done('outdated', 1) end
-- Nothing is given unless this is the server that is trusted, and its clock is where the asker expects it.
suspect(now, server, ask.epoch, ask.stepped, ask.expects)
if ask.epoch ~= trust().epoch then return done('epoch', trust().epoch) end
if math.abs(now - (ask.expects or 0)) > math.max(number(run[6]), 50000) then return done('clock', 1) end
if now > deadline + 300000 then return close() end
if run[8] or run[10] then return done('wait', deadline + 300001 - now) end  -- cancelled, or no call may begin

-- Whoever turns puts back what is overdue: leases that ended, back-offs that are over.
local due_at = first(P .. 'due')
if due_at <= now then
  for _, member in ipairs(call('ZRANGEBYSCORE', P .. 'due', '-inf', now, 'LIMIT', 0, 50)) do
    put_back(now, run_id, member, {text = 'nobody knows: its worker froze, or lost Redis'})
  end
  due_at = first(P .. 'due')
end

local function head(key)  -- of what may be used now, that of the lowest rank; else what may be used next
  -- All that is open scores 0, so that the lowest rank is first.
  for _, member in ipairs(call('ZRANGEBYSCORE', key, '(0', now, 'LIMIT', 0, 200)) do call('ZADD', key, 0, member) end
  local first = call('ZRANGE', key, 0, 0, 'WITHSCORES')
  return first[1], tonumber(first[2] or nil) or math.huge
end
local function preferred()  -- the open type that goes before the first, if one does
  local best, most
  if shares then  -- the first that is open now and has had less than its share of the run's calls
    for _, share in ipairs(cjson.decode(shares)) do
      local begun = call('HMGET', P .. 'tally', 'begun', 'begun:' .. share[1])
      local member = share[2] * (number(begun[1]) + 1) > number(begun[2]) and ranked(share[1])
      if member and (tonumber(call('ZSCORE', P .. 'open', member) or nil) or math.huge) <= now then return member end
    end
  end
  for _, member in ipairs(run[5] and call('ZRANGEBYSCORE', P .. 'open', '-inf', now, 'LIMIT', 0, 50) or {}) do
    -- The longest of the first that are open; of equal ones the first by rank.
    local ready = call('ZCARD', P .. 'ready:' .. string.match(member, ' (.*)'))
    if not most or ready > most or ready == most and member < best then best, most = member, ready end
  end
  return best
end
local function fits(name, kind)  -- whether a call there still ends in time
  local terms = terms_of(name, kind)
  return terms and now + terms[3] <= deadline
end
-- A slot is taken only if its windows are verified in this step: `free:` and `open` are lower bounds.
local opens_at, kind, name, ready, opens_next, failing
for _ = 1, 50 do
  local member, place, free
  member, opens_at = head(P .. 'open')
  if opens_at > now then break end
  member = (shares or run[5]) and preferred() or member
  kind = string.match(member, ' (.*)')
  ranks[kind] = member
  place, free = head(P .. 'free:' .. kind)
  name, ready = place and string.match(place, ' (.*)'), try('ZRANGE', P .. 'ready:' .. kind, 0, 1)
  if free > now or #ready == 0 then  -- no event either if it holds something else
    index(kind)
  elseif not fits(name, kind) then
    call('ZADD', P .. 'free:' .. kind, FAR, place)  -- no call there ends in time any more
    index(kind)
  else
    free, opens_next, failing = opens(now, name)
    if free <= now then break end
    opens_next = nil
    refresh(now, name, free)
  end
end
if not opens_next then
  if opens_at <= now then return done('wait', 1000) end
  if not (run[7] or may_go_on(deadline, opens_at, due_at)) then return close() end
  return done('wait', math.max(0, math.min(deadline + 300001, due_at, opens_at) - now))
end

local function avoids(record)  -- whether the event has just failed there
  return record[7] == name and record[5] == run_id and number(record[4]) > 0
end
local id = ready[1]
local record = look(id)
for _, other in ipairs(avoids(record) and call('ZRANGE', P .. 'ready:' .. kind, 1, 7) or {}) do
  local its = look(other)
  if not avoids(its) then
    id, record = other, its
    break
  end
end
if avoids(record) then  -- all of the first have: the first goes to another endpoint if one is free, else there anyway
  for _, place in ipairs(call('ZRANGEBYSCORE', P .. 'free:' .. kind, '-inf', now, 'LIMIT', 0, 8)) do
    local other = string.match(place, ' (.*)')
    local free, after, fails = FAR, nil, nil
    if other ~= name and fits(other, kind) then free, after, fails = opens(now, other) end
    if free <= now then
      name, opens_next, failing = other, after, fails
      break
    end
  end
end
if record.broken then call('DEL', event_key(id)) end  -- it holds no event; the lane makes a dead letter of it
local of, at = rules_of(name), us(now)
-- The number of a claim is its moment: no other has it, even if the event was forgotten since, and came again.
claims = us(math.max(now, number(record[8]) + 1))
stamp_call(name, id .. ' ' .. claims, now)
if failing then call('HSET', P .. 'endpoint:' .. of.window, 'rest', now + of.probe) end  -- one probe at a time
call('ZREM', P .. 'ready:' .. kind, id)
waiting[kind] = #ready > 1
call('ZADD', P .. 'due', lease_end(now, of.timeout, deadline), id)
call('HSET', event_key(id), 'owner', me, 'claims', claims, 'endpoint', name, 'stamp', at)
call('HSET', held, ask.lane, us(ask.n) .. ' ' .. claims .. ' ' .. name .. ' ' .. at .. ' ' .. id)
if not run[11] then call('HSET', P .. 'run', 'first_release_at', seconds(now)) end
if shares then
  count('begun')
  count('begun:' .. kind)
end
if opens_next > now then
  refresh(now, name, opens_next)
elseif #ready == 1 then  -- otherwise nothing changes in the index
  index(kind)
end
if gave_back and gave_back ~= name then wake('unsent') end
return give(id, claims, name, now, kind, record)

--- restamp(prefix; worker, lane, event_id, claims, endpoint)
-- The call leaves now, later than it was stamped: its slot and its lease count from now.
-- Returns  {now, owned}: whether the event is still the lane's
-- Atomic because the slot must count from one moment or the other, whoever has the event.
-- include moving
local now = now_us()
stamp_call(endpoint, event_id .. ' ' .. claims, now)
refresh(now, endpoint)
local record = redis.pcall('HMGET', event_key(event_id), 'owner', 'claims')
local owned = not record.err and record[1] == worker .. ' ' .. lane and record[2] == claims
if owned then  -- its time-out counts from now, and so does its lease
  call('HSET', event_key(event_id), 'stamp', now)
  local of, deadline = rules_of(endpoint), tonumber(call('HGET', P .. 'run', 'deadline_us') or nil)
  if of and deadline then call('ZADD', P .. 'due', 'XX', lease_end(now, of.timeout, deadline), event_id) end
end
return cmsgpack.pack{now = now, owned = owned}
