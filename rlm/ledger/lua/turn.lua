--- turn(prefix, failed; ask: json, server)
-- Settles the call that a lane has made, if any, and gives the lane its next call, with its slot.
-- failed   the list of dead letters
-- ask      who asks, and what for; spans and moments in microseconds
--   worker, lane, host, revision  the lane, the host of its worker, and the revision of its configuration
--   n           the number of this ask of the lane
--   epoch, expects, stepped  of the lease, as the asker knows it; the time of Redis that it expects now, nil if it expects
--               none; by how much it has seen that clock step, nil if not at all
--   nothing     the lane wants no call
--   dedupe_ms   how long a settled event is remembered, to recognise duplicates, milliseconds
--   settle      nil, or the call that the lane has made:
--     event, claims, endpoint, stamp  as the lane got it
--     to          where the event goes: completed, failed, ready, backoff or spent
--     sent        it was, or may have been sent; otherwise its slot is given back
--     finish      how it ended, for the log and the trail; nil if no call was made
--     well        the endpoint answered as it should
--     sick, why   'failure' or 'refusal' of the endpoint, in a few words; unconnected: no connection could be opened
--     asked_us    the rest that it asked for; negative: as long as its longest period
--     counts_us   how long ago the slot must count from, because the API may have read the call so late
--     delay_us    of a back-off
--     spends, tried  it spends an attempt of this run; it was an attempt
--     kind, failing  the trouble that is counted; a temporary failure
--     took_ms, entry, letter  its milliseconds; its entry in the trail, and the letter of a failed event, both JSON
-- server   run id of the server of this connection
-- Returns  {now}, and after a settlement {settled}: 0 if the claim was no longer the lane's; opened, rested: the rest that a
--          failure or a refusal began; reopened: the endpoint answers again; elsewhere: another host reached it just now.
--          And one of
--   event       a call: with claims, endpoint, stamp, wallet, item, attempt, tries, runs, run_id, deadline_us, call_us, need_us
--   wait        microseconds until it makes sense to ask again
--   over        no run is running, or it gives no calls now
--   close       the run in which nothing more can be done, with its deadline_us
--   outdated    the run has another configuration
--   epoch       ask again with this one
--   clock       measure the clock, and ask again
--   stale       the lane has asked later than this
--   nothing     as asked
-- Atomic because only one lane may get an event and a slot, and because a lost reply must neither lose nor double a call.
-- include moving
-- include replies
local now = now_us()
local me, held = ask.worker .. ' ' .. ask.lane, P .. 'held:' .. ask.worker
local run = redis.call('HMGET', P .. 'run', 'run_id', 'revision', 'state', 'deadline_us', 'most', 'guard_us', 'draining',
  'cancelled', 'shares', 'barred', 'first_release_at')
local run_id, revision, state, deadline = run[1], run[2], run[3], tonumber(run[4] or nil)
local answer, gave_back = {now = us(now)}, nil
running = state == 'running'  -- as `index` asks

-- Nothing is owned unless the run is running, so a call that is told late changes no more than its windows.
local function owned(event, claims)
  local record = redis.pcall('HMGET', event, 'owner', 'claims', 'taken_at', 'tries_in', 'tries', 'attempt', 'trail', 'runs')
  if record.err or state ~= 'running' or record[1] ~= me or tonumber(record[2]) ~= claims then return end
  return record
end

-- An answer ends a breaker's rest only if its call was stamped after that rest began, and a failure stamped before it does not
-- lengthen it. The rest that a server asked for ends by itself.
local function judge(call)
  local of = (call.well or call.sick) and rules_of(call.endpoint)
  if not of then return end
  local place = P .. 'endpoint:' .. of.window
  local was = try('HMGET', place, 'failures', 'since', 'well', 'refusals')
  if was.err then return end
  local since = tonumber(was[2] or nil)
  local after_rest = not since or call.stamp >= since
  local well_at, well_host = string.match(was[3] or '', '^(%d+) (.*)$')
  if call.well then
    if well_host ~= ask.host or now - well_at > 1000000 then redis.call('HSET', place, 'well', us(now) .. ' ' .. ask.host) end
    if (was[1] or since or was[4]) and after_rest then
      redis.call('HDEL', place, 'failures', 'refusals', 'rest', 'since', 'failed_with')
      freed(now, call.endpoint)
      wake('well')
      if since then answer.reopened = 1 end
    end
  elseif call.sick == 'refusal' then
    local refusals = after_rest and redis.call('HINCRBY', place, 'refusals', 1) or 1
    local least = refusals > 1 and math.min(of.rest, 1000000 * 2 ^ math.min(refusals - 2, 30)) or 0
    local wanted = call.asked_us or 0
    local asked = now + math.max(wanted < 0 and of.rest or wanted, least)
    asked = math.max(asked, tonumber(redis.call('HGET', place, 'asked') or 0))
    redis.call('HSET', place, 'asked', us(asked))
    if after_rest then
      redis.call('HDEL', place, 'rest')  -- it was the probe, and is answered
      redis.call('HSET', place, 'since', us(now))
      answer.rested = us(asked - now)
    end
    refresh(now, call.endpoint)
  elseif call.sick and after_rest then
    -- If another host succeeded there just now, the way from this one is the trouble, and not the endpoint.
    if call.unconnected and well_host and well_host ~= ask.host and now - well_at < 10000000 then
      answer.elsewhere = 1
      return
    end
    local failures = redis.call('HINCRBY', place, 'failures', 1)
    redis.call('HSET', place, 'failed_with', call.why or '')
    if failures >= 5 or since then
      local rest = math.min(of.rest, 1000000 * 2 ^ math.min(math.max(failures - 5, 0), 30))
      redis.call('HSET', place, 'rest', us(now + rest), 'since', us(now))
      if failures == 5 then
        redis.call('HSET', place, 'opened_us', us(now))
        answer.opened = us(rest)
      end
      refresh(now, call.endpoint)
    end
  end
end

local COUNTED = {completed = 'delivered', throttled = 'throttled'}
local function settle(call)
  local id, event, name = call.event, event_key(call.event), call.event .. ' ' .. us(call.claims)
  if call.counts_us then
    stamp_call(call.endpoint, name, now - call.counts_us)
    refresh(now, call.endpoint)
  end
  local record = owned(event, call.claims)
  if not record then return 0 end
  if not call.sent then
    unstamp_call(call.endpoint, name)
    gave_back = call.endpoint
    if run[9] then
      for _, of_share in ipairs{'begun', 'begun:' .. kind_of(id)} do redis.call('HINCRBY', P .. 'tally', of_share, -1) end
    end
    local of = rules_of(call.endpoint)
    if of and try('HGET', P .. 'endpoint:' .. of.window, 'rest') == us(call.stamp + of.probe) then
      redis.call('HDEL', P .. 'endpoint:' .. of.window, 'rest')  -- a probe that was not made gives way to the next
    end
  end
  judge(call)
  if answer.elsewhere then  -- it spends no attempt
    call.to, call.spends, call.tried, call.failing, call.delay_us = 'backoff', nil, nil, nil, call.delay_us or 500000
  end
  local function number(place) return tonumber(record[place] or nil) or 0 end
  local fields, kind = {}, kind_of(id)
  local function write(field, value) fields[#fields + 1], fields[#fields + 2] = field, value end
  if call.finish then
    if call.sent then log_call(now, run_id, id, call, call.finish, call.took_ms or '0', tonumber(record[3] or nil)) end
    count((COUNTED[call.finish] or 'errors') .. ':' .. call.endpoint)
    if call.failing then count('failing:' .. kind .. ' ' .. call.endpoint) end
    if call.kind then count('trouble:' .. call.endpoint .. ' ' .. call.kind) end
    write('last', call.endpoint)
    if call.tried then write('attempt', number(6) + 1) end
    write('trail', number(7) + 1)
    write(string.format('t%d', (number(7) + 1) % 50), trail_entry(now, call.entry))
  end
  if call.spends then
    write('tries_in', run_id)
    write('tries', record[4] == run_id and number(5) + 1 or 1)
  end
  if call.to == 'spent' then write('runs', number(8) + 1) end
  if call.to == 'completed' then write('state', 'completed') end
  if #fields > 0 then redis.call('HSET', event, unpack(fields)) end
  redis.call('ZREM', P .. 'inflight', id)
  if call.to == 'completed' then
    count('completed:' .. kind)
    if ask.dedupe_ms > 0 then
      redis.call('HDEL', event, 'item', 'owner')
      redis.call('PEXPIRE', event, ask.dedupe_ms)
    else
      redis.call('DEL', event)
    end
  elseif call.to == 'failed' then
    bury(failed, id, call.letter, ask.dedupe_ms)
  elseif call.to == 'ready' then
    if not call.finish then
      redis.call('HINCRBY', event, 'unsent', 1)
      count('unsent:' .. kind)
    end
    make_ready(id)
  else
    redis.call('HDEL', event, 'owner')
    redis.call('ZADD', P .. 'backoff', call.to == 'spent' and '+inf' or us(now + (call.delay_us or 0)), id)
  end
  if gave_back then freed(now, gave_back) end
  return 1
end

local function done(name, value)  -- no call this time
  redis.call('HSET', held, ask.lane, us(ask.n))
  if gave_back then wake('unsent') end
  answer[name] = value
  return named(answer)
end
local function look(id)
  local record = redis.pcall('HMGET', event_key(id), 'wallet', 'item', 'attempt', 'tries', 'tries_in', 'runs', 'last', 'claims')
  return record.err and {broken = true} or record
end
local function give(id, claims, endpoint, stamp, kind, record)
  local of = rules_of(endpoint)
  local terms = of and of.types[kind] or {'', 0, 0}
  answer.event, answer.claims, answer.endpoint, answer.stamp = id, claims, endpoint, stamp
  answer.wallet, answer.item, answer.attempt = record[1] or '', record[2] or '', tonumber(record[3] or nil) or 0
  answer.tries, answer.runs = record[5] == run_id and tonumber(record[4] or nil) or 0, tonumber(record[6] or nil) or 0
  answer.run_id, answer.deadline_us, answer.call_us, answer.need_us = run_id, us(deadline), us(terms[2]), us(terms[3])
  return named(answer)
end

-- The same ask repeats its answer, an older one does nothing, and a newer one gives back unsent what it did not settle.
local last = redis.call('HGET', held, ask.lane) or '0'
local last_n, claims, endpoint, stamp, event = string.match(last, '^(%d+) (%d+) (%S+) (%d+) (.*)$')
last_n = tonumber(last_n or last) or 0
if ask.n < last_n then return named{now = us(now), stale = 1} end
if ask.n > last_n then
  if ask.settle then answer.settled = settle(ask.settle) end
  if event and not (ask.settle and ask.settle.event == event and ask.settle.claims == tonumber(claims)) then
    settle{event = event, claims = tonumber(claims), endpoint = endpoint, stamp = tonumber(stamp), to = 'ready', sent = false}
  end
elseif event and owned(event_key(event), tonumber(claims)) then
  return give(event, claims, endpoint, stamp, kind_of(event), look(event))
end

if ask.nothing then  -- nobody else knows what it settled: the run may be over, an event may wait again
  if ask.settle and not gave_back then wake('settled') end
  return done('nothing', 1)
end
if state ~= 'running' then return done('over', 1) end
if revision ~= ask.revision then return done('outdated', 1) end
-- Nothing is given unless this is the server that is trusted, and its clock is where the asker expects it.
suspect(now, server, ask.epoch, ask.stepped, ask.expects)
if ask.epoch ~= trust().epoch then return done('epoch', trust().epoch) end
if not ask.expects or math.abs(now - ask.expects) > math.max(tonumber(run[6] or nil) or 0, 50000) then return done('clock', 1) end
local function close()
  answer.deadline_us = us(deadline)
  return done('close', run_id)
end
if now > deadline + 300000 then return close() end
if run[8] or run[10] then return done('wait', us(deadline + 300001 - now)) end  -- cancelled, or no call may begin

-- Whoever turns puts back what is overdue: leases that ended, back-offs that are over.
local function due(set, most, put_back)
  local at = tonumber(redis.call('ZRANGE', P .. set, 0, 0, 'WITHSCORES')[2] or nil)
  if not at or at > now then return at end
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', P .. set, '-inf', us(now), 'LIMIT', 0, most)) do put_back(id) end
  return tonumber(redis.call('ZRANGE', P .. set, 0, 0, 'WITHSCORES')[2] or nil)
end
local flies = due('inflight', 50, function(id)
  revoke(now, run_id, id, {text = 'nobody knows: its worker froze, or lost Redis'})
  make_ready(id)
end)
local returns = due('backoff', 200, function(id)
  redis.call('ZREM', P .. 'backoff', id)
  make_ready(id)
end) or math.huge

local later = math.min(deadline + 300001, flies or math.huge, returns)
local function head(key)  -- what may be used now scores 0, so that of those the lowest rank comes first
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', key, '(0', us(now), 'LIMIT', 0, 200)) do
    redis.call('ZADD', key, 0, member)
  end
  local first = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')
  return first[1], tonumber(first[2] or nil)
end
local function longest()  -- of the first types that are open now, the one with the most ready events
  local best, most
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', P .. 'open', 0, 0, 'LIMIT', 0, 50)) do
    local ready = redis.call('ZCARD', P .. 'ready:' .. string.match(member, ' (.*)'))
    if not most or ready > most then best, most = member, ready end
  end
  return best
end
local function owed()  -- the first type that is open now and has had less than its share of the run's calls
  for _, share in ipairs(cjson.decode(run[9])) do
    local begun = redis.call('HMGET', P .. 'tally', 'begun', 'begun:' .. share[1])
    local member = (rank_of(share[1]) or '') .. ' ' .. share[1]
    if share[2] * ((tonumber(begun[1] or nil) or 0) + 1) > (tonumber(begun[2] or nil) or 0)
      and tonumber(redis.call('ZSCORE', P .. 'open', member) or nil) == 0 then return member end
  end
end
local function fits(endpoint, kind)  -- whether a call there still ends in time
  local terms = (rules_of(endpoint) or {types = {}}).types[kind]
  return terms and now + terms[3] <= deadline
end
-- A slot is taken only if its windows are verified in this step: `free:` and `open` are lower bounds.
local opens_at, ready = math.huge, nil
local function choose()
  for _ = 1, 50 do
    local member, at = head(P .. 'open')
    opens_at = at or math.huge
    if not member or at > now then
      later = math.min(later, opens_at)
      return
    end
    member = run[9] and owed() or run[5] and longest() or member
    local kind = string.match(member, ' (.*)')
    local place, free = head(P .. 'free:' .. kind)
    local name = place and string.match(place, ' (.*)')
    ready = try('ZRANGE', P .. 'ready:' .. kind, 0, 7)  -- none, if it holds something else
    if not name or free > now or #ready == 0 then
      index(kind)
    elseif not fits(name, kind) then
      redis.call('ZADD', P .. 'free:' .. kind, us(FAR), place)  -- no call there ends in time any more
      index(kind)
    else
      local free_at, failing = opens(now, name)
      if free_at <= now then return kind, name, failing end
      refresh(now, name)
    end
  end
  later, opens_at = now + 1000, now
end
local kind, name, failing = choose()
local function nothing_left()  -- looks at all types again, once a run, for `open` may have been deleted
  if redis.call('HSETNX', P .. 'run', 'searched', '1') == 0 then return true end
  for _, field in ipairs(redis.call('HKEYS', P .. 'rules')) do
    local waiting = string.match(field, '^type (.*)')
    if waiting and redis.call('EXISTS', P .. 'ready:' .. waiting) == 1 then index(waiting) end
  end
  local _, at = head(P .. 'open')
  later = math.min(later, at or math.huge)
  return later > deadline
end
if not kind then
  if not flies and not run[7] and math.min(opens_at, returns) > deadline and nothing_left() then return close() end
  return done('wait', us(math.max(0, later - now)))
end

local function avoids(record)  -- whether the event has just failed there
  return record[7] == name and record[5] == run_id and (tonumber(record[4] or nil) or 0) > 0
end
local id, record
for _, other in ipairs(ready) do
  local its = look(other)
  if not id then id, record = other, its end
  if not avoids(its) then
    id, record = other, its
    break
  end
end
if avoids(record) then  -- all of the first have: the first goes to another endpoint if one is free, else there anyway
  for _, place in ipairs(redis.call('ZRANGEBYSCORE', P .. 'free:' .. kind, '-inf', us(now), 'LIMIT', 0, 8)) do
    local other = string.match(place, ' (.*)')
    if other ~= name and fits(other, kind) then
      local free_at, fails = opens(now, other)
      if free_at <= now then
        name, failing = other, fails
        break
      end
    end
  end
end
if record.broken then redis.call('DEL', event_key(id)) end  -- it holds no event; the lane makes a dead letter of it
local of = rules_of(name)
-- The number of a claim is its moment: no other has it, even if the event was forgotten since, and came again.
claims = us(math.max(now, (tonumber(record[8] or nil) or 0) + 1))
stamp_call(name, id .. ' ' .. claims, now)
if failing then redis.call('HSET', P .. 'endpoint:' .. of.window, 'rest', us(now + of.probe)) end  -- one probe at a time
redis.call('ZREM', P .. 'ready:' .. kind, id)
redis.call('ZADD', P .. 'inflight', us(lease_end(now, of.timeout, deadline)), id)
redis.call('HSET', event_key(id), 'owner', me, 'claims', claims, 'endpoint', name, 'stamp', us(now))
redis.call('HSET', held, ask.lane, us(ask.n) .. ' ' .. claims .. ' ' .. name .. ' ' .. us(now) .. ' ' .. id)
if not run[11] then
  redis.call('HSET', P .. 'run', 'first_release_at', string.format('%d.%06d', math.floor(now / 1000000), now % 1000000))
end
if run[9] then
  count('begun')
  count('begun:' .. kind)
end
local opens_next = opens(now, name)
if opens_next > now then
  refresh(now, name, opens_next)
elseif #ready == 1 then  -- otherwise nothing changes in the index
  index(kind)
end
if gave_back and gave_back ~= name then wake('unsent') end
return give(id, claims, name, us(now), kind, record)

--- restamp(prefix; worker, lane, event_id, claims, endpoint)
-- The call leaves now, later than it was stamped: its slot and its lease count from now.
-- worker, lane  who has it
-- event_id, claims, endpoint  the call
-- Returns  {now, owned}: whether the event is still the lane's
-- Atomic because the slot must count from one moment or the other, whoever has the event.
-- include moving
-- include replies
local now = now_us()
stamp_call(endpoint, event_id .. ' ' .. claims, now)
refresh(now, endpoint)
local record = redis.pcall('HMGET', event_key(event_id), 'owner', 'claims')
local owned = not record.err and record[1] == worker .. ' ' .. lane and record[2] == claims
if owned then  -- its time-out counts from now, and so does its lease
  redis.call('HSET', event_key(event_id), 'stamp', us(now))
  local of, deadline = rules_of(endpoint), tonumber(redis.call('HGET', P .. 'run', 'deadline_us') or nil)
  if of and deadline then redis.call('ZADD', P .. 'inflight', 'XX', us(lease_end(now, of.timeout, deadline)), event_id) end
end
return named{now = us(now), owned = owned}
