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
-- ARGV[3]  probe_us  how long a probe may take until another one is allowed
-- ARGV[4]  event id  that the slot is for, or empty
-- ARGV[5]  call      the note, 'lane:window id|%s|endpoint' and, with a budget, '|its window id'; %s becomes the stamp
-- then for each window: the name of its owner, its limit as it was read, its number of rules, then for each rule its limit
--          and its span in microseconds (period and guard)
-- then the run id of the server of this connection
-- Returns  {1, 0, stamp, suspect} taken; suspect is 1 for a probe and after failures, else 0; {0, wait_us, '0', 0} refused;
--          wait_us is -1 for never, 0 if its limit was changed; it is also refused if nobody vouched for the server
-- Atomic because all workers share the windows; between looking and taking, another worker could take the slot.
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
if event_id ~= '' and redis.call('HEXISTS', calls, event_id) == 1 then  -- otherwise the event was given back meanwhile
  redis.call('HSET', calls, event_id, (string.gsub(call, '%%s', stamp)))
  local lease = tonumber(redis.call('ZSCORE', inflight, event_id) or 0)
  if lease < 0 then redis.call('ZADD', inflight, string.format('%.0f', -lease), event_id) end
end
return {1, 0, stamp, suspect}

--- return_slot
-- Gives an unused slot back, or blocks a used one for a period, from now or from some time ago, in all its windows.
-- KEYS[1]  window    of its endpoint, list of slots: stamps in microseconds of Redis time, newest first
-- KEYS[2]  calls     hash of the worker: event id -> its call; unused without an event id
-- KEYS[3]  inflight  zset of the event's type, by the end of the lease, negative without a slot; likewise
-- KEYS[4]  moved     list of the window's slots that count from later than their calls were sent
-- KEYS[5]  health    hash of the endpoint: probing, probe_until_us
-- KEYS[6..] both     the window of the endpoint's budget and its `moved`; missing if it has none
-- ARGV[1]  stamp     of the slot
-- ARGV[2]  event id  it was taken for, or empty
-- ARGV[3]  call      the new note of the call; %s becomes the new stamp; empty: the slot is given back
-- ARGV[4]  ago_us    from when it is blocked, microseconds before now; never earlier than it was taken
-- ARGV[5]  shortest  period of its limits, microseconds: a slot moved by less needs no note, because every call in between
--          was admitted beside it; empty: the call was sent only now
-- ARGV[6]  most      the most entries of `moved`
-- ARGV[7..] kept_ms  how long each `moved` is kept, milliseconds
-- Returns  the slot's new stamp, '0' if it is given back or no longer exists
-- Atomic because the slot may not be missing for an instant, nor be moved without the note of when its call was sent.
--          Without the note it would count as a call at its new moment. A probe that was not sent allows the next one.
local window, calls, inflight, moved, health, budget, budget_moved =
  KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local stamp, event_id, call, ago_us, shortest = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
if redis.call('LREM', window, 1, stamp) == 0 then return '0' end
if budget then redis.call('LREM', budget, 1, stamp) end
if call == '' then
  if redis.call('HGET', health, 'probing') == stamp then redis.call('HDEL', health, 'probe_until_us') end
  local noted = event_id ~= '' and redis.call('HGET', calls, event_id)
  if noted then
    redis.call('HSET', calls, event_id, string.match(noted, '^%d+:') or '')
    local lease = tonumber(redis.call('ZSCORE', inflight, event_id) or 0)
    if lease > 0 then redis.call('ZADD', inflight, string.format('%.0f', -lease), event_id) end
  end
  return '0'
end
-- include now
local from = math.max(now - ago_us, tonumber(stamp))
if ago_us == 0 then  -- from now means from the newest slot on, whatever the clock does
  for _, list in ipairs({window, budget}) do from = math.max(from, tonumber(redis.call('LINDEX', list, 0) or 0)) end
end
local blocked = string.format('%.0f', from)
for _, list in ipairs({window, budget}) do  -- each list stays in order
  local place = 0
  while tonumber(redis.call('LINDEX', list, place) or 0) > from do place = place + 1 end
  local older = redis.call('LINDEX', list, place)
  if older then redis.call('LINSERT', list, 'BEFORE', older, blocked) else redis.call('RPUSH', list, blocked) end
end
if shortest and from - stamp + ago_us >= shortest then
  for index, list in ipairs({moved, budget_moved}) do
    redis.call('LPUSH', list, blocked .. ' ' .. stamp)
    redis.call('LTRIM', list, 0, ARGV[6] - 1)
    redis.call('PEXPIRE', list, ARGV[6 + index])
  end
end
if event_id ~= '' and redis.call('HEXISTS', calls, event_id) == 1 then
  redis.call('HSET', calls, event_id, (string.gsub(call, '%%s', blocked)))
end
return blocked

--- look_windows
-- Looks at the windows of endpoints and budgets without taking slots; begins the rest that a longer rule needs.
-- KEYS[1]  epoch    hash: since, before which windows are not trusted; underway_us, for how much longer
-- then for each of them: its window, its health (as in acquire_slot)
-- ARGV[1]  keep_us  how long slots are kept, at least
-- then for each of them: its number of rules, then for each rule its limit and its span in microseconds
-- Returns  {now_us, then for each of them {free, wait_us, rest_us, suspect, held_us, paused_us}}: free slots; the time to
--          the next one; what is left of a rest of any kind; 1 if it rested because of its answers and no probe has been
--          answered well since, else 0; what is left of a rest because its window cannot be trusted; and of a pause
-- One script because the answer must be of one instant, by the clock of the stamps.
local keep_us = tonumber(ARGV[1])
-- include now
-- include younger
-- include restamp_ahead
local answer = {string.format('%.0f', now)}
local at = 2
local trust = redis.call('HMGET', KEYS[1], 'since', 'underway_us')
for index = 2, #KEYS, 2 do
  local window, health = KEYS[index], KEYS[index + 1]
  local told = redis.call(
    'HMGET', health, 'rest_until_us', 'probing', 'probe_until_us', 'kept_us', 'held_until_us', 'paused_until_us')
  restamp_ahead(window)  -- here too, because nobody asks a shut window for a slot
  local paused = math.max(0, tonumber(told[6] or 0) - now)
  local free, wait, longest = math.huge, 0, 0
  local rules = tonumber(ARGV[at])
  for rule = 1, rules do
    local limit, span = tonumber(ARGV[at + 2 * rule - 1]), tonumber(ARGV[at + 2 * rule])
    local taken = younger(window, now - span, limit)
    free = math.min(free, limit - taken)
    if taken == limit then
      wait = math.max(wait, redis.call('LINDEX', window, limit - 1) + span - now)
    end
    longest = math.max(longest, span)
  end
  at = at + 1 + 2 * rules
  local held = math.max(0, (told[5] or 0) - now, (trust[1] or -math.huge) + (trust[2] or 0) + longest - now)
  local kept = tonumber(told[4] or 0)
  if kept > 0 and longest > kept then  -- as in acquire_slot
    held = math.max(held, longest - kept)
    kept = math.max(keep_us, longest)
    redis.call('HSET', health, 'held_until_us', string.format('%.0f', now + held))
    redis.call('HSET', health, 'kept_us', string.format('%.0f', kept))
    redis.call('PEXPIRE', window, math.ceil(kept / 1000) + 60000)  -- as in take_slot
  end
  local rest = math.max(held, paused, (told[1] or 0) - now)
  wait = math.max(wait, rest)
  if told[2] then
    free = math.min(free, 1)
    wait = math.max(wait, tonumber(told[3] or 0) - now)
  end
  if wait > 0 then free = 0 end
  answer[#answer + 1] = {free, math.ceil(wait), math.ceil(rest), told[2] and 1 or 0, math.ceil(held), math.ceil(paused)}
end
return answer

--- count_slots
-- Counts the slots of windows that were taken within each of several periods, and changes nothing.
-- KEYS[1..] window  list of slots: stamps in microseconds of Redis time, newest first
-- ARGV     for each window: its number of periods, then each in microseconds
-- Returns  for each window the numbers of slots younger than its periods, in one list
-- One script because the numbers must be of one instant; a window may hold a day of slots, so it uses binary search.
-- include now
-- include younger
local counts, at = {}, 1
for index = 1, #KEYS do
  local window = KEYS[index]
  local periods = tonumber(ARGV[at])
  for period = 1, periods do counts[#counts + 1] = younger(window, now - ARGV[at + period]) end
  at = at + 1 + periods
end
return counts

--- join_budget
-- Counts the earlier calls of an endpoint on its new budget, each once.
-- KEYS[1]  lease     hash with the fencing token
-- KEYS[2]  budgets   hash: window id of an endpoint -> window id of the budget that its calls are counted on;
--          both ids -> when an earlier pairing ended, microseconds of Redis time
-- KEYS[3]  window    list of the endpoint's slots: stamps in microseconds of Redis time, newest first
-- KEYS[4]  health    hash of the endpoint: kept_us
-- KEYS[5]  shared    list of the budget's slots; any other key if the endpoint has none
-- KEYS[6]  account   hash of the budget's health: kept_us; likewise
-- ARGV[1]  token
-- ARGV[2]  endpoint  its window id
-- ARGV[3]  budget    its window id, or empty if the endpoint no longer has one
-- ARGV[4]  keep_ms   how long the budget's slots are kept, at least
-- Returns  how many slots the budget got
-- Atomic because slots are taken meanwhile, and the list of them must stay in order.
local lease, budgets, window, health, shared, account = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local token, endpoint, budget, keep_ms = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
-- include fence
local named = redis.call('HGET', budgets, endpoint) or ''
if named == budget then return 0 end
-- include now
if named ~= '' then  -- calls that were made under the old budget stay counted there
  redis.call('HSET', budgets, endpoint .. ' ' .. named, string.format('%.0f', now))
  redis.call('HDEL', budgets, endpoint)
end
if budget == '' then return 0 end
redis.call('HSET', budgets, endpoint, budget)
local left = tonumber(redis.call('HGET', budgets, endpoint .. ' ' .. budget) or 0)
local kept = tonumber(redis.call('HGET', health, 'kept_us') or 0)
if left + kept < now and kept > 0 then  -- earlier calls are unknown to the budget, so longer rules make it rest
  kept = math.min(kept, tonumber(redis.call('HGET', account, 'kept_us') or kept))
  redis.call('HSET', account, 'kept_us', string.format('%.0f', kept))
end
local counted, slots, at, joined = redis.call('LRANGE', shared, 0, -1), {}, 1, 0
for _, stamp in ipairs(redis.call('LRANGE', window, 0, -1)) do
  while counted[at] and tonumber(counted[at]) > tonumber(stamp) do
    slots[#slots + 1] = counted[at]
    at = at + 1
  end
  if counted[at] == stamp then at = at + 1 else joined = joined + 1 end  -- equal: counted under an earlier pairing
  slots[#slots + 1] = stamp
end
if joined == 0 then return 0 end
for rest = at, #counted do slots[#slots + 1] = counted[rest] end
keep_ms = math.max(keep_ms + 60000, redis.call('PTTL', shared))  -- as in take_slot
redis.call('DEL', shared)
for first = 1, #slots, 1000 do redis.call('RPUSH', shared, unpack(slots, first, math.min(first + 999, #slots))) end
redis.call('PEXPIRE', shared, keep_ms)
return joined
