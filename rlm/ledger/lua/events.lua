--- release_events
-- Releases pending events of one type: their messages are sent next.
-- KEYS[1]  lease     hash with the fencing token
-- KEYS[2]  current   id of the open run
-- KEYS[3]  pending   zset of the type
-- KEYS[4]  released  zset of the type, by when an unclaimed one is pending again (microseconds of Redis time)
-- KEYS[5..] hash of each event
-- ARGV[1]  token
-- ARGV[2]  run id
-- ARGV[3]  claim_us  how long a release waits to be claimed, microseconds
-- then for each event: its id, the name of the endpoint meant for it
-- Returns  for each event its release number, 0 for one that is not pending any more, -1 for one that cannot be sent: its
--          hash is missing, or holds what it cannot
-- Atomic because an event must be in one state, and an older message of it must be refused from this instant.
local lease, current, pending, released = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local token, run_id, claim_us = ARGV[1], ARGV[2], tonumber(ARGV[3])
-- include fence
if redis.call('GET', current) ~= run_id then return redis.error_reply('FENCED by another conductor') end
-- include now
local due = string.format('%.0f', now + claim_us)
local numbers = {}
local function is_sound(event)
  local told = redis.pcall('HMGET', event, 'score', 'release', 'attempt', 'tries', 'runs', 'deaths', 'trail', 'unsent',
    'closings')
  if told.err or not tonumber(told[1] or nil) then return false end
  for field = 2, 9 do
    if told[field] and (#told[field] > 15 or not string.match(told[field], '^%d+$')) then return false end
  end
  return redis.call('HEXISTS', event, 'item') == 1 and redis.call('HEXISTS', event, 'wallet') == 1
end
for index = 1, #KEYS - 4 do
  local event, event_id, endpoint = KEYS[4 + index], ARGV[2 + 2 * index], ARGV[3 + 2 * index]
  if not redis.call('ZSCORE', pending, event_id) then
    numbers[index] = 0
  elseif not is_sound(event) then
    numbers[index] = -1
  else
    redis.call('ZREM', pending, event_id)
    numbers[index] = redis.call('HINCRBY', event, 'release', 1)
    redis.call('HSET', event, 'endpoint', endpoint)
    redis.call('ZADD', released, due, event_id)
  end
end
return numbers

--- claim_event
-- Claims a released event for one lane, before anything else is done with it.
-- KEYS[1]  current   id of the open run
-- KEYS[2]  run       its hash
-- KEYS[3]  event     hash of the event
-- KEYS[4]  released  zset of its type
-- KEYS[5]  inflight  zset of its type, by the end of the lease (microseconds of Redis time, negative without a slot)
-- KEYS[6]  pending   zset of its type
-- KEYS[7]  calls     hash of the worker: event id -> its call, empty before it has a slot
-- KEYS[8]  limits    hash: name of an endpoint or a budget -> its limit in force
-- KEYS[9]  expected  hash: type and endpoint -> microseconds a call takes, microseconds it needs
-- KEYS[10] alone     id of the event that the worker carries alone, suspected of killing it; empty: kept free
-- ARGV[1]  run id
-- ARGV[2]  release   number of the release that the message belongs to
-- ARGV[3]  event id
-- ARGV[4]  worker    id of the worker
-- ARGV[5]  revision  of the worker's configuration
-- ARGV[6]  lease_us  how long the claim lasts, microseconds
-- ARGV[7]  configured_us  how long a call is expected to take if nothing is published of it, microseconds
-- ARGV[8]  slack_us  what must be left beside that, microseconds
-- ARGV[9]  type
-- ARGV[10] suspect   number of deaths from which on an event is carried alone
-- ARGV[11] hold_us   how long the worker is kept free for one that is to wait, microseconds; 0: it has waited enough
-- ARGV[12] number of its endpoints
-- ARGV[13..] their names, then the names of their budgets
-- Returns  {'stale'} an older release, or not released; {'revision'} the worker must be replaced; {'waits'} it stays
--          released until the worker has nothing in hand; {'late'} it fits nowhere before the deadline, {'alone'} the
--          worker has one alone or is kept free for it: it is pending again; or {'claimed', remaining_us, wallet, item,
--          endpoint, attempt, tries, runs, last, then what to expect of each endpoint, then each limit or empty}
-- Atomic because two workers may hold messages of the same event, and only one may send it.
local current, run, event, released, inflight, pending, calls, limits, expected, alone =
  KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[8], KEYS[9], KEYS[10]
local run_id, release, event_id, worker, revision, type = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[9]
local lease_us, configured_us, slack_us, hold_us, endpoints =
  tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[11]), tonumber(ARGV[12])
local conduct = redis.call('HMGET', run, 'state', 'deadline_us', 'revision', 'cancelled')
local told = redis.call('HMGET', event, 'wallet', 'item', 'endpoint', 'attempt', 'tries', 'tries_in', 'runs', 'last',
  'release', 'score', 'deaths')
local due, lonely = redis.call('ZSCORE', released, event_id), redis.call('GET', alone)
if redis.call('GET', current) ~= run_id or conduct[1] ~= 'running' or conduct[4] then return {'stale'} end
if conduct[3] ~= revision then return {'revision'} end
if not due or told[9] ~= release then return {'stale'} end
-- include now
local remaining, published, needed_us = tonumber(conduct[2]) - now, {}, endpoints == 0 and configured_us or math.huge
for index = 13, 12 + endpoints do
  local expects = redis.call('HGET', expected, type .. ' ' .. ARGV[index]) or ''
  published[#published + 1] = expects
  needed_us = math.min(needed_us, tonumber(string.match(expects, '%d+$')) or configured_us)
end
local late, suspected = remaining < needed_us + slack_us, tonumber(told[11] or 0) >= tonumber(ARGV[10])
local taken = lonely and (redis.call('HEXISTS', calls, lonely) == 1 or lonely == '' and not suspected)
if suspected and not taken and not late and hold_us > 0 and redis.call('HLEN', calls) > 0 then
  redis.call('SET', alone, '', 'PX', math.ceil(hold_us / 1000))
  redis.call('ZADD', released, string.format('%.0f', math.max(due, now + hold_us)), event_id)
  return {'waits'}
end
redis.call('ZREM', released, event_id)
if late or taken then
  redis.call('ZADD', pending, told[10], event_id)
  return {late and 'late' or 'alone'}
end
redis.call('ZADD', inflight, string.format('%.0f', -(now + lease_us)), event_id)  -- negative: it has no slot yet
redis.call('HSET', event, 'owner', worker)
redis.call('HSET', calls, event_id, '')
if suspected then redis.call('SET', alone, event_id, 'PX', math.max(1, math.ceil(lease_us / 500))) end  -- twice the lease
local claim = {'claimed', string.format('%.0f', remaining), told[1], told[2], told[3] or '', told[4] or '0',
  told[6] == run_id and told[5] or '0', told[7] or '0', told[8] or ''}
for _, expects in ipairs(published) do claim[#claim + 1] = expects end
for index = 13, #ARGV do claim[#claim + 1] = redis.call('HGET', limits, ARGV[index]) or '' end
return claim

--- complete_event
-- Settles an event as completed.
-- KEYS[1]  event     hash of the event
-- KEYS[2]  inflight  zset of its type
-- KEYS[3]  calls     hash of the worker: event id -> its call
-- KEYS[4]  tally     hash of the run's counts
-- KEYS[5]  timings   list of the run, for each completed call: endpoint, type, milliseconds that it took, milliseconds
--                    from its event's claim to its slot, microseconds of Redis time of its answer, milliseconds from
--                    when its event was taken to its answer, milliseconds its lane was idle before it
-- ARGV[1]  event id
-- ARGV[2]  worker
-- ARGV[3]  release      number of the release it was claimed under
-- ARGV[4]  type
-- ARGV[5]  endpoint     name of the endpoint that answered
-- ARGV[6]  duration_ms  from the call's start to its answer
-- ARGV[7]  dedupe_ms    how long the event is remembered, to recognise duplicates
-- ARGV[8]  entry        of the event's trail: the call and its answer, JSON
-- ARGV[9]  waited_ms    from the event's claim to the call's slot
-- ARGV[10] idle_ms      from its lane's last answer to when the call was sent; 0 if it had none
-- Returns  1 settled, 0 the claim was no longer the worker's and nothing was changed
-- Atomic because a worker given up for dead may come back after its event went to another.
-- include append_trail
-- include settle_event
local event, inflight, calls, tally, timings = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local event_id, worker, release, type, endpoint, duration_ms, dedupe_ms, entry, waited_ms, idle_ms =
  ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], tonumber(ARGV[7]), ARGV[8], ARGV[9], ARGV[10]
local claim = redis.call('HMGET', event, 'owner', 'release', 'taken_at')
-- include lost_claim
if not redis.call('ZSCORE', inflight, event_id) then return 0 end
redis.call('LLEN', timings)  -- what is refused is so before anything is changed
redis.call('HINCRBY', tally, 'completed:' .. type, 1)
redis.call('ZREM', inflight, event_id)
redis.call('HINCRBY', tally, 'delivered:' .. endpoint, 1)
-- include now
local age_ms = string.format('%.0f', math.max(0, now / 1000 - (tonumber(claim[3]) or now / 1000000) * 1000))
local at_us = string.format('%.0f', now)
redis.call('RPUSH', timings, table.concat({endpoint, type, duration_ms, waited_ms, at_us, age_ms, idle_ms}, ' '))
redis.call('HSET', event, 'last', endpoint)
redis.call('HINCRBY', event, 'attempt', 1)
append_trail(event, entry)
settle_event(event, 'completed', dedupe_ms)
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
-- ARGV[3]  release      number of the release it was claimed under
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
local event_id, worker, release, type, endpoint, failing, dedupe_ms, letter, entry, kind =
  ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], tonumber(ARGV[7]), ARGV[8], ARGV[9], ARGV[10]
local claim = redis.call('HMGET', event, 'owner', 'release')
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
-- ARGV[3]  release      number of the release it was claimed under
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
local event_id, worker, release, run_id, where, delay_us, answer, endpoint, failing, entry, kind =
  ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6]), ARGV[7], ARGV[8], ARGV[9], ARGV[10], ARGV[11]
local claim = redis.call('HMGET', event, 'owner', 'release', 'score', 'tries_in')
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
