--- void_releases(lease, releases; token)
-- Takes back released calls that no lane has made in time.
-- lease     hash with the fencing token
-- releases  list of the released calls, the first one first
-- token     the caller's fencing token
-- Returns  the endpoint of each call; empty if it is unknown
-- Atomic because a lane may take one at the same moment.
-- include fencing
-- include clock
if fenced(lease, token) then return FENCED end
local now, voided = now_us(), {}
while true do
  local raw = redis.call('LINDEX', releases, 0)
  local read, release = pcall(cjson.decode, raw or '')
  if not raw or (read and type(release) == 'table' and tonumber(release.void or nil) and release.void > now) then
    return voided
  end
  redis.call('LPOP', releases)
  local of = read and type(release) == 'table' and release.of
  voided[#voided + 1] = type(of) == 'table' and tostring(of.endpoint or '') or ''
end

--- promote_events(backoff, pending; events: json)
-- Makes events pending again whose back-off is over.
-- backoff  zset of the type, by the end of the back-off (microseconds of Redis time)
-- pending  zset of the type
-- events   {id, key} of each
-- Returns  how many are pending again
-- Atomic because an event must be in exactly one state at any instant.
-- include taking_back
local promoted = 0
for _, event in ipairs(events) do
  if redis.call('ZREM', backoff, event.id) == 1 then
    redis.call('ZADD', pending, score_of(event.key), event.id)
    promoted = promoted + 1
  end
end
return promoted

--- orphan_event(event, inflight, pending, calls, tally, failed; event_id, worker, call, stamp, endpoint, when, type_name,
---   windows: json, dedupe_ms: number, poison: number, letter, entry, kept_ms)
-- Takes an event back from a worker that died, or whose lease expired; its slot stays blocked for a period from now.
-- event      its hash
-- inflight   zset of its type, by the end of the lease (microseconds of Redis time, negative without a slot)
-- pending    zset of its type
-- calls      hash of the worker: event id -> its call
-- tally      hash of the open run's counts
-- failed     the list of dead letters
-- event_id
-- worker     the owner of the event
-- call       the note read from the worker's hash, as acquire_slot wrote it, or empty
-- stamp      of its slot, or empty
-- endpoint   it was sent to, or empty
-- when       'dead': at once; 'ended': likewise, but no death is counted; 'expired': only if the lease has expired;
--            'closing': likewise, but no death is counted
-- type_name
-- windows    {window, moved} of the endpoint and of its budget, if it has one: lists of the slots, and of those that
--            count from later than their calls were sent
-- dedupe_ms  how long a failed event is remembered
-- poison     number of deaths that make an event a dead letter
-- letter     that dead letter, JSON
-- entry      for the event's trail: the call with an unknown answer, JSON; unused without a slot
-- kept_ms    how long moved slots are remembered, milliseconds
-- Returns  'pending', 'failed', or '' if nothing was taken back
-- Atomic because a slow worker may settle the event at the same moment; only one of the two may succeed.
-- include clock
-- include trail
-- include taking_back
local now, lease = now_us(), redis.call('ZSCORE', inflight, event_id)
local known = redis.pcall('HMGET', event, 'owner', 'score')
local owner, score = known[1], tonumber(known[2] or nil) and known[2]
local owned = lease and (not score or owner == worker)
if (when == 'expired' or when == 'closing') and owned and math.abs(lease) > now then return '' end
if (redis.call('HGET', calls, event_id) or '') ~= call then return '' end
redis.call('ZCARD', pending)  -- these fail, if they must, before anything is changed
redis.call('HLEN', calls)
redis.call('HLEN', tally)
redis.call('LLEN', failed)
redis.call('HDEL', calls, event_id)
if stamp ~= '' and redis.call('LREM', windows[1].window, 1, stamp) == 1 then
  local moved = now
  for place, one in ipairs(windows) do
    if place > 1 then redis.call('LREM', one.window, 1, stamp) end
    moved = math.max(moved, tonumber(redis.call('LINDEX', one.window, 0) or 0))
  end
  for _, one in ipairs(windows) do
    redis.call('LPUSH', one.window, us(moved))
    redis.call('LPUSH', one.moved, us(moved) .. ' ' .. stamp)
    redis.call('PEXPIRE', one.moved, kept_ms)
  end
end
if not owned then return '' end
redis.call('ZREM', inflight, event_id)
if not score then return redis.call('ZADD', pending, '0', event_id) and 'pending' end  -- see take_turn
redis.call('HDEL', event, 'owner')
if stamp ~= '' then
  redis.call('HINCRBY', tally, 'errors:' .. endpoint, 1)
  redis.call('HINCRBY', tally, 'trouble:' .. endpoint .. ' worker lost', 1)
  redis.call('HINCRBY', event, 'attempt', 1)
  redis.call('HSET', event, 'last', endpoint)
  append_trail(event, now, entry)
end
if (when == 'dead' or when == 'expired') and redis.call('HINCRBY', event, 'deaths', 1) >= poison then
  settle_failed(event, tally, failed, type_name, letter, dedupe_ms)
  return 'failed'
end
redis.call('ZADD', pending, score, event_id)
return 'pending'

--- return_unsettled(current, run, holder, pending; run_id, sent: number, events: json)
-- Makes events that a finishing run could not settle pending again, as leftovers.
-- current  id of the open run
-- run      its hash
-- holder   zset of one type: inflight, backoff or spent
-- pending  zset of the type
-- run_id
-- sent     1 if the holder is inflight: with a slot (a positive lease) a call may have been sent, so the next call is
--          another attempt
-- events   {id, key, entry} of each; entry: for its trail, of a call with an unknown answer, JSON
-- Returns  how many are pending again, -1 if that run is not finishing
-- Atomic because a late answer must find the event taken away; it has no owner from here on.
-- include clock
-- include trail
-- include taking_back
if redis.call('GET', current) ~= run_id or redis.call('HGET', run, 'state') ~= 'finishing' then return -1 end
local returned = 0
redis.call('ZCARD', pending)  -- fails, if it must, before anything is changed
for _, event in ipairs(events) do
  local lease = redis.call('ZSCORE', holder, event.id)
  if lease then
    redis.call('ZREM', holder, event.id)
    redis.pcall('HDEL', event.key, 'owner')
    if sent == 1 and tonumber(lease) > 0 then
      redis.pcall('HINCRBY', event.key, 'attempt', 1)
      append_trail(event.key, now_us(), event.entry)
    end
    redis.call('ZADD', pending, score_of(event.key), event.id)
    returned = returned + 1
  end
end
return returned

--- fail_pending(lease, event, pending, tally, failed; token, event_id, type_name, dedupe_ms: number, letter)
-- Makes a dead letter of a pending event whose type is no longer configured, or that cannot be sent.
-- lease      hash with the fencing token
-- event      its hash
-- pending    zset of its type
-- tally      hash of the run's counts
-- failed     the list of dead letters
-- token      the caller's fencing token
-- event_id
-- type_name
-- dedupe_ms  how long the event is remembered, to recognise duplicates
-- letter     the dead letter, JSON
-- Returns  1 settled, 0 the event was no longer pending and nothing was changed
-- Atomic because a deposed conductor with an older configuration must not settle an event that its successor can send.
-- include fencing
-- include taking_back
if fenced(lease, token) then return FENCED end
if not redis.call('ZSCORE', pending, event_id) then return 0 end
redis.call('LLEN', failed)  -- fails, if it must, before anything is changed
redis.call('HLEN', tally)
if not tonumber(redis.pcall('HLEN', event)) then redis.call('DEL', event) end  -- it holds no hash
redis.call('ZREM', pending, event_id)
settle_failed(event, tally, failed, type_name, letter, dedupe_ms)
return 1

--- drop_pending(current, event, pending, runs, dropped; event_id, type_name)
-- Removes a leftover event and forgets it.
-- current    id of the open run
-- event      its hash
-- pending    zset of its type
-- runs       list of ids of finished runs, newest first
-- dropped    hash: the run that left them over, and `events:TYPE`, how many of them were dropped
-- event_id
-- type_name
-- Returns  1 dropped; 0 it is no longer a leftover; -1 a run is open: nothing was changed
-- Atomic because a run that opens takes all leftovers into its books, and none may vanish after that.
--          And because the leftovers must equal what is pending plus what was dropped, at any instant.
if redis.call('EXISTS', current) == 1 then return -1 end
if redis.call('ZREM', pending, event_id) == 0 then return 0 end
redis.call('DEL', event)
local last = redis.call('LINDEX', runs, 0) or ''
if redis.call('HGET', dropped, 'run') ~= last then
  redis.call('DEL', dropped)
  redis.call('HSET', dropped, 'run', last)
end
redis.call('HINCRBY', dropped, 'events:' .. type_name, 1)
return 1

--- taking_back
-- Takes events back that nobody works on.
-- Gives  score_of(event)  its order score, '0' if it cannot be read: it goes first, so that its release reveals the fault
--        settle_failed(event, tally, failed, type_name, letter, dedupe_ms)  makes it a dead letter; it is kept for a while
--        without its item, to recognise duplicates
local function score_of(event)
  local score = redis.pcall('HGET', event, 'score')
  return type(score) == 'string' and tonumber(score) and score or '0'
end
local function settle_failed(event, tally, failed, type_name, letter, dedupe_ms)
  redis.call('LPUSH', failed, letter)
  redis.call('HINCRBY', tally, 'failed:' .. type_name, 1)
  if dedupe_ms <= 0 then return redis.call('DEL', event) end
  redis.call('HDEL', event, 'item', 'owner')
  redis.call('HSET', event, 'letter', redis.sha1hex(letter), 'state', 'failed')
  redis.call('PEXPIRE', event, dedupe_ms)
end
