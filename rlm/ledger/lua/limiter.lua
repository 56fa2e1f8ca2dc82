--- acquire_slot
-- Takes slots of an endpoint's moving window, and of its budget's, by the clock of Redis, if all their rules allow it.
-- KEYS[1]  calls     hash of the worker: event id -> its call; unused without an event id
-- KEYS[2]  inflight  zset of the event's type, by the end of the lease, negative without a slot; likewise
-- KEYS[3]  epoch     hash: server that the conductor has vouched for, slots ever taken, since, underway_us
-- KEYS[4]  limits    hash: name of an endpoint or a budget -> its limit in force
-- then for the endpoint, and for its budget if it has one:
--          window    list of slots: stamps in microseconds of Redis time, newest first
--          health    hash: rest_until_us, held_until_us, paused_until_us, probing, probe_until_us, failures, kept_us
-- ARGV[1]  cost      slots to take
-- ARGV[2]  keep_us   how long slots are kept, at least
-- ARGV[3]  probe_us  how long a probe may take before another one is allowed
-- ARGV[4]  event id  that the slot is for, or empty
-- ARGV[5]  call      'window id|%s|endpoint' and, with a budget, '|its window id': what is noted, %s being the stamp
-- then for each window: whose it is, its limit as it was read, its number of rules, then for each rule its limit, its
--          span in microseconds (period and guard)
-- Returns  {1, 0, stamp, suspect} taken, suspect being 1 for a probe and after failures, else 0; {0, wait_us, '0', 0}
--          refused, wait_us being -1 for never, 0 if its limit was changed; also if nobody vouched for the memory
-- Atomic because all workers share the windows: between looking and taking another would slip in.
local calls, inflight, epoch, limits = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local cost, keep_us, probe_us, event_id, call = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4], ARGV[5]
local trust = redis.call('HMGET', epoch, 'server', 'since', 'underway_us')
if trust[1] ~= string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') then return {0, 20000, '0', 0} end
-- include now
-- include restamp_ahead
local stamp = string.format('%.0f', now)  -- tostring would lose digits
local wait, suspect, at, keep, probing = 0, 0, 6, {}, {}
for index = 5, #KEYS, 2 do
  local window, health = KEYS[index], KEYS[index + 1]
  if (redis.call('HGET', limits, ARGV[at]) or ARGV[at + 1]) ~= ARGV[at + 1] then return {0, 0, '0', 0} end
  restamp_ahead(window)
  local told = redis.call('HMGET', health, 'rest_until_us', 'probing', 'probe_until_us', 'failures', 'kept_us',
    'held_until_us', 'paused_until_us')
  local longest, rules = 0, tonumber(ARGV[at + 2])
  for rule = 1, rules do
    local limit, span = tonumber(ARGV[at + 2 * rule + 1]), tonumber(ARGV[at + 2 * rule + 2])
    if cost > limit then return {0, -1, '0', 0} end
    wait = math.max(wait, (redis.call('LINDEX', window, limit - cost) or -math.huge) + span - now)
    longest = math.max(longest, span)
  end
  at = at + 3 + 2 * rules
  local held = math.max(tonumber(told[6] or 0), (trust[2] or -math.huge) + (trust[3] or 0) + longest) - now
  local kept = tonumber(told[5] or 0)
  keep[index], probing[index] = math.max(keep_us, longest), told[2]
  if kept > 0 and longest > kept then  -- the rule looks further back than was kept: wait until what is kept suffices
    held = math.max(held, longest - kept)
    redis.call('HSET', health, 'held_until_us', string.format('%.0f', now + held))
    redis.call('PEXPIRE', window, math.ceil(keep[index] / 1000))
  end
  redis.call('HSET', health, 'kept_us', string.format('%.0f', keep[index]))
  wait = math.max(wait, held, (told[1] or 0) - now, (told[7] or 0) - now, (told[2] and told[3] or 0) - now)
  if told[2] or told[4] then suspect = 1 end
end
if wait > 0 then return {0, math.ceil(wait), '0', 0} end
for index = 5, #KEYS, 2 do
  local window, health = KEYS[index], KEYS[index + 1]
  for _ = 1, cost do redis.call('LPUSH', window, stamp) end
  while tonumber(redis.call('LINDEX', window, -1)) + keep[index] <= now do redis.call('RPOP', window) end
  redis.call('PEXPIRE', window, math.ceil(keep[index] / 1000))
  if probing[index] then redis.call('HSET', health, 'probe_until_us', string.format('%.0f', now + probe_us)) end
end
redis.call('HINCRBY', epoch, 'slots', cost)
if event_id ~= '' and redis.call('HEXISTS', calls, event_id) == 1 then  -- else it asked too late: given back since
  redis.call('HSET', calls, event_id, (string.gsub(call, '%%s', stamp)))
  local lease = tonumber(redis.call('ZSCORE', inflight, event_id) or 0)
  if lease < 0 then redis.call('ZADD', inflight, string.format('%.0f', -lease), event_id) end
end
return {1, 0, stamp, suspect}
