-- Takes an event back from a worker that died, or whose lease ran out; its slot stays blocked for a period from now.
-- KEYS[1]  event     hash of the event
-- KEYS[2]  inflight  zset of its type, by the end of the lease (microseconds of Redis time, negative without a slot)
-- KEYS[3]  pending   zset of its type
-- KEYS[4]  calls     hash of the worker: event id -> its call
-- KEYS[5]  tally     hash of the open run's counts
-- KEYS[6]  failed    the list of dead letters
-- KEYS[7]  window    list of the endpoint's slots; any other key if the call had none
-- KEYS[8]  moved     list of those of its slots that count from later than their calls were sent
-- KEYS[9..] both     the same two of the endpoint's budget; missing if it has none
-- ARGV[1]  event id
-- ARGV[2]  worker    whose event it was
-- ARGV[3]  call      the call as read from the worker's hash, as acquire_slot noted it, or empty
-- ARGV[4]  stamp     of its slot, or empty
-- ARGV[5]  endpoint  it was sent to, or empty
-- ARGV[6]  when      'dead': at once; 'ended': likewise, and it died of no event; 'expired': only if the lease has run
--          out; 'closing': likewise, and nobody died
-- ARGV[7]  type
-- ARGV[8]  dedupe_ms how long a failed event is remembered
-- ARGV[9]  poison    number of deaths that make an event a dead letter
-- ARGV[10] letter    that dead letter, JSON
-- ARGV[11] entry     of the event's trail: the call, whose answer nobody knows, JSON; unused without a slot
-- ARGV[12] kept_ms   how long is remembered which slots were moved, milliseconds
-- Returns  'pending', 'failed', or '' if nothing was taken back
-- Atomic because a slow worker may settle the event at the same moment: one of the two must lose.
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
for place, command in ipairs({'ZCARD', 'HLEN', 'HLEN', 'LLEN'}) do redis.call(command, KEYS[2 + place]) end  -- or refused
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
if not tonumber(told[2] or nil) then return redis.call('ZADD', pending, '0', event_id) and 'pending' end  -- see release_events
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
