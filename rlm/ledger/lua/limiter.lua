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
-- ARGV[5]  call      'lane:window id|%s|endpoint' and, with a budget, '|its window id': what is noted, %s being the stamp
-- then for each window: whose it is, its limit as it was read, its number of rules, then for each rule its limit, its
--          span in microseconds (period and guard)
-- then the run id of the server that this connection leads to
-- Returns  {1, 0, stamp, suspect} taken, suspect being 1 for a probe and after failures, else 0; {0, wait_us, '0', 0}
--          refused, wait_us being -1 for never, 0 if its limit was changed; also if nobody vouched for the memory
-- Atomic because all workers share the windows: between looking and taking another would slip in.
local calls, inflight, epoch, limits = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local cost, keep_us, probe_us, event_id, call = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4], ARGV[5]
local trust = redis.call('HMGET', epoch, 'server', 'since', 'underway_us')
if trust[1] ~= ARGV[#ARGV] then return {0, 20000, '0', 0} end
-- include now
-- include restamp_ahead
-- include younger
-- include slots
local stamp = string.format('%.0f', now)  -- tostring would lose digits
local longest, suspect, at, slots = 0, 0, 6, {}
for index = 5, #KEYS, 2 do
  if (redis.call('HGET', limits, ARGV[at]) or ARGV[at + 1]) ~= ARGV[at + 1] then return {0, 0, '0', 0} end
  local rules = {}
  for rule = 1, tonumber(ARGV[at + 2]) do
    rules[rule] = {tonumber(ARGV[at + 2 * rule + 1]), tonumber(ARGV[at + 2 * rule + 2])}
  end
  at = at + 3 + 2 * #rules
  local wait, slot = ask_slot(KEYS[index], KEYS[index + 1], cost, rules, keep_us, trust)
  if wait < 0 then return {0, -1, '0', 0} end
  longest = math.max(longest, wait)
  slots[#slots + 1] = slot
  if slot.suspect then suspect = 1 end
end
if longest > 0 then return {0, longest, '0', 0} end
for _, slot in ipairs(slots) do take_slot(slot, cost, stamp, probe_us) end
redis.call('HINCRBY', epoch, 'slots', cost)
if event_id ~= '' and redis.call('HEXISTS', calls, event_id) == 1 then  -- else it asked too late: given back since
  redis.call('HSET', calls, event_id, (string.gsub(call, '%%s', stamp)))
  local lease = tonumber(redis.call('ZSCORE', inflight, event_id) or 0)
  if lease < 0 then redis.call('ZADD', inflight, string.format('%.0f', -lease), event_id) end
end
return {1, 0, stamp, suspect}
