--- void_releases
-- Takes back released calls that no lane has made in time.
-- KEYS[1]  lease     hash with the fencing token
-- KEYS[2]  releases  list of the released calls, the first one first
-- ARGV[1]  token
-- Returns  the endpoint of each call; empty if it is unknown
-- Atomic because a lane may take one at the same moment.
local lease, releases = KEYS[1], KEYS[2]
local token = ARGV[1]
-- include fence
-- include now
local voided = {}
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

--- promote_events
-- Makes events pending again whose back-off is over.
-- KEYS[1]  backoff  zset of the type, by the end of the back-off (microseconds of Redis time)
-- KEYS[2]  pending  zset of the type
-- KEYS[3..] hash of each event
-- ARGV     id of each event
-- Returns  how many are pending again
-- Atomic because an event must be in exactly one state at any instant.
local backoff, pending = KEYS[1], KEYS[2]
local promoted = 0
-- include score_of
for index = 1, #ARGV do
  local event, event_id = KEYS[2 + index], ARGV[index]
  if redis.call('ZREM', backoff, event_id) == 1 then
    redis.call('ZADD', pending, score_of(event), event_id)
    promoted = promoted + 1
  end
end
return promoted

--- orphan_event
-- Takes an event back from a worker that died, or whose lease expired; its slot stays blocked for a period from now.
-- KEYS[1]  event     hash of the event
-- KEYS[2]  inflight  zset of its type, by the end of the lease (microseconds of Redis time, negative without a slot)
-- KEYS[3]  pending   zset of its type
-- KEYS[4]  calls     hash of the worker: event id -> its call
-- KEYS[5]  tally     hash of the open run's counts
-- KEYS[6]  failed    the list of dead letters
-- KEYS[7]  window    list of the endpoint's slots; any other key if the call had none
-- KEYS[8]  moved     list of its slots that count from later than their calls were sent
-- KEYS[9..] both     the same two lists of the endpoint's budget; missing if it has none
-- ARGV[1]  event id
-- ARGV[2]  worker    the owner of the event
-- ARGV[3]  call      the note read from the worker's hash, as acquire_slot wrote it, or empty
-- ARGV[4]  stamp     of its slot, or empty
-- ARGV[5]  endpoint  it was sent to, or empty
-- ARGV[6]  when      'dead': at once; 'ended': likewise, but no death is counted; 'expired': only if the lease has
--          expired; 'closing': likewise, but no death is counted
-- ARGV[7]  type
-- ARGV[8]  dedupe_ms how long a failed event is remembered
-- ARGV[9]  poison    number of deaths that make an event a dead letter
-- ARGV[10] letter    that dead letter, JSON
-- ARGV[11] entry     for the event's trail: the call with an unknown answer, JSON; unused without a slot
-- ARGV[12] kept_ms   how long moved slots are remembered, milliseconds
-- Returns  'pending', 'failed', or '' if nothing was taken back
-- Atomic because a slow worker may settle the event at the same moment; only one of the two may succeed.
-- include append_trail
-- include settle_event
local event, inflight, pending, calls, tally, failed, window, budget =
  KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[9]
local event_id, worker, call, stamp, endpoint, when, type, dedupe_ms, poison, letter, entry =
  ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7], tonumber(ARGV[8]), tonumber(ARGV[9]), ARGV[10], ARGV[11]
-- include now
local lease = redis.call('ZSCORE', inflight, event_id)
local told = redis.pcall('HMGET', event, 'owner', 'score')
local owned = lease and (not tonumber(told[2] or nil) or told[1] == worker)
if (when == 'expired' or when == 'closing') and owned and math.abs(lease) > now then return '' end
if (redis.call('HGET', calls, event_id) or '') ~= call then return '' end
for place, command in ipairs({'ZCARD', 'HLEN', 'HLEN', 'LLEN'}) do redis.call(command, KEYS[2 + place]) end  -- fail first
redis.call('HDEL', calls, event_id)
if stamp ~= '' and redis.call('LREM', window, 1, stamp) == 1 then
  if budget then redis.call('LREM', budget, 1, stamp) end
  local moved = now
  for index = 7, #KEYS, 2 do moved = math.max(moved, tonumber(redis.call('LINDEX', KEYS[index], 0) or 0)) end
  moved = string.format('%.0f', moved)
  for index = 7, #KEYS, 2 do
    redis.call('LPUSH', KEYS[index], moved)
    redis.call('LPUSH', KEYS[index + 1], moved .. ' ' .. stamp)
    redis.call('PEXPIRE', KEYS[index + 1], ARGV[12])
  end
end
if not owned then return '' end
redis.call('ZREM', inflight, event_id)
if not tonumber(told[2] or nil) then return redis.call('ZADD', pending, '0', event_id) and 'pending' end  -- see take_turn
redis.call('HDEL', event, 'owner')
if stamp ~= '' then
  for _, what in ipairs({'errors:%s', 'trouble:%s worker lost'}) do redis.call('HINCRBY', tally, what:format(endpoint), 1) end
  redis.call('HINCRBY', event, 'attempt', 1)
  redis.call('HSET', event, 'last', endpoint)
  append_trail(event, entry)
end
if (when == 'dead' or when == 'expired') and redis.call('HINCRBY', event, 'deaths', 1) >= poison then
  redis.call('LPUSH', failed, letter)
  redis.call('HINCRBY', tally, 'failed:' .. type, 1)
  redis.call('HSET', event, 'letter', redis.sha1hex(letter))
  settle_event(event, 'failed', dedupe_ms)
  return 'failed'
end
redis.call('ZADD', pending, told[2], event_id)
return 'pending'

--- return_unsettled
-- Makes events that a finishing run could not settle pending again, as leftovers.
-- KEYS[1]  current  id of the open run
-- KEYS[2]  run      its hash
-- KEYS[3]  holder   zset of one type: inflight, backoff or spent
-- KEYS[4]  pending  zset of the type
-- KEYS[5..] hash of each event
-- ARGV[1]  run id
-- ARGV[2]  sent     '1' if the holder is inflight: with a slot (a positive lease) a call may have been sent, so the next
--          call is another attempt
-- then for each event: its id, and the trail entry of a call with an unknown answer, JSON; unused without one
-- Returns  how many are pending again, -1 if that run is not finishing
-- Atomic because a late answer must find the event taken away; it has no owner from here on.
local current, run, holder, pending = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local run_id, sent = ARGV[1], ARGV[2]
if redis.call('GET', current) ~= run_id or redis.call('HGET', run, 'state') ~= 'finishing' then return -1 end
-- include append_trail
-- include score_of
local returned = 0
redis.call('ZCARD', pending)  -- fails, if it must, before anything is changed
for index = 1, #KEYS - 4 do
  local event, event_id, entry = KEYS[4 + index], ARGV[1 + 2 * index], ARGV[2 + 2 * index]
  local lease = redis.call('ZSCORE', holder, event_id)
  if lease then
    redis.call('ZREM', holder, event_id)
    redis.pcall('HDEL', event, 'owner')
    if sent == '1' and tonumber(lease) > 0 then
      redis.pcall('HINCRBY', event, 'attempt', 1)
      append_trail(event, entry)
    end
    redis.call('ZADD', pending, score_of(event), event_id)
    returned = returned + 1
  end
end
return returned

--- fail_pending
-- Makes a dead letter of a pending event whose type is no longer configured.
-- KEYS[1]  lease    hash with the fencing token
-- KEYS[2]  event    hash of the event
-- KEYS[3]  pending  zset of its type
-- KEYS[4]  tally    hash of the run's counts
-- KEYS[5]  failed   the list of dead letters
-- ARGV[1]  token
-- ARGV[2]  event id
-- ARGV[3]  type
-- ARGV[4]  dedupe_ms  how long the event is remembered, to recognise duplicates
-- ARGV[5]  letter     the dead letter, JSON
-- Returns  1 settled, 0 the event was no longer pending and nothing was changed
-- Atomic because a deposed conductor with an older configuration must not settle an event that its successor can send.
-- include settle_event
local lease, event, pending, tally, failed = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local token, event_id, type, dedupe_ms, letter = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5]
-- include fence
if not redis.call('ZSCORE', pending, event_id) then return 0 end
redis.call('LLEN', failed)  -- fails, if it must, before anything is changed
redis.call('HINCRBY', tally, 'failed:' .. type, 1)
if not tonumber(redis.pcall('HLEN', event)) then redis.call('DEL', event) end  -- it holds no hash
redis.call('ZREM', pending, event_id)
redis.call('LPUSH', failed, letter)
redis.call('HSET', event, 'letter', redis.sha1hex(letter))
settle_event(event, 'failed', dedupe_ms)
return 1

--- drop_pending
-- Removes a leftover event and forgets it.
-- KEYS[1]  current  id of the open run
-- KEYS[2]  event    hash of the event
-- KEYS[3]  pending  zset of its type
-- KEYS[4]  runs     list of ids of finished runs, newest first
-- KEYS[5]  dropped  hash: the run that left them over, and `events:TYPE`, how many of them were dropped
-- ARGV[1]  event id
-- ARGV[2]  type
-- Returns  1 dropped; 0 it is no longer a leftover; -1 a run is open: nothing was changed
-- Atomic because a run that opens takes all leftovers into its books, and none may vanish after that.
--          And because the leftovers must equal what is pending plus what was dropped, at any instant.
local current, event, pending, runs, dropped = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local event_id, type = ARGV[1], ARGV[2]
if redis.call('EXISTS', current) == 1 then return -1 end
if redis.call('ZREM', pending, event_id) == 0 then return 0 end
redis.call('DEL', event)
local last = redis.call('LINDEX', runs, 0) or ''
if redis.call('HGET', dropped, 'run') ~= last then
  redis.call('DEL', dropped)
  redis.call('HSET', dropped, 'run', last)
end
redis.call('HINCRBY', dropped, 'events:' .. type, 1)
return 1
