--- acquire_slot(calls, inflight, epoch, limits;
---   cost: number, keep_us: number, probe_us: number, event_id, note, windows: json, server)
-- Takes slots of an endpoint's moving window, and of its budget's, by the clock of Redis, if all their rules allow it.
-- calls     hash of the worker: event id -> the note of its call; unused without an event id
-- inflight  zset of the event's type, by the end of the lease, negative without a slot; likewise
-- epoch     hash: server that the conductor has vouched for, slots ever taken, since, underway_us
-- limits    hash: name of an endpoint or a budget -> its limit in force
-- cost      slots to take
-- keep_us   how long slots are kept, at least
-- probe_us  how long a probe may take until another one is allowed
-- event_id  the event that the slot is for, or empty
-- note      'lane:window id|%s|endpoint' and, with a budget, '|its window id'; %s becomes the stamp
-- windows   of the endpoint, and of its budget if it has one: {window, health, name, limit, rules}; window: list of
--           slots, stamps in microseconds of Redis time, newest first; health: hash; limit: as it was read;
--           rules: {{calls, span in microseconds (period and guard)}, ...}
-- server    run id of the server of this connection
-- Returns   {stamp, suspect} taken; suspect: for a probe and after failures. Else {wait_us}: -1 for never, 0 if its limit was
--           changed. It is also refused if nobody vouched for the server.
-- Atomic because all workers share the windows; between looking and taking, another worker could take the slot.
-- include replies
-- include slots
local trust = trust_of(epoch)
if trust.server ~= server then return named{wait_us = 20000} end
local now = now_us()
local suspect, longest, slots = false, 0, {}
for index, one in ipairs(windows) do
  if (redis.call('HGET', limits, one.name) or one.limit) ~= one.limit then return named{wait_us = 0} end
  local wait, slot = ask_slot(now, one, cost, keep_us, trust)
  if wait < 0 then return named{wait_us = -1} end
  longest = math.max(longest, wait)
  slots[index] = slot
  suspect = suspect or slot.suspect
end
if longest > 0 then return named{wait_us = longest} end
local stamp = us(now)
for _, slot in ipairs(slots) do take_slot(now, slot, cost, probe_us) end
redis.call('HINCRBY', epoch, 'slots', cost)
if event_id ~= '' and redis.call('HEXISTS', calls, event_id) == 1 then  -- otherwise the event was given back meanwhile
  redis.call('HSET', calls, event_id, (string.gsub(note, '%%s', stamp)))
  local lease = tonumber(redis.call('ZSCORE', inflight, event_id) or 0)
  if lease < 0 then redis.call('ZADD', inflight, us(-lease), event_id) end
end
return named{stamp = stamp, suspect = suspect}

--- return_slot(calls, inflight, health;
---   stamp, event_id, note, ago_us: number, shortest_us: json, most: number, windows: json)
-- Gives an unused slot back, or blocks a used one for a period, from now or from some time ago, in all its windows.
-- calls        hash of the worker: event id -> the note of its call; unused without an event id
-- inflight     zset of the event's type, by the end of the lease, negative without a slot; likewise
-- health       hash of the endpoint: probing, probe_until_us
-- stamp        of the slot
-- event_id     the event it was taken for, or empty
-- note         the new note of the call; %s becomes the new stamp; empty: the slot is given back
-- ago_us       from when it is blocked, microseconds before now; never earlier than it was taken
-- shortest_us  period of its limits: a slot moved by less needs no record in `moved`, because every call in between was
--              admitted beside it; null: the call was sent only now
-- most         the most entries of `moved`
-- windows      of the endpoint, and of its budget if it has one: {window, moved, kept_ms}; window: list of slots, newest
--              first; moved: list of those that count from later than their calls were sent, kept so long
-- Returns      the slot's new stamp, '0' if it is given back or no longer exists
-- Atomic because the slot may not be missing for an instant, nor be moved without the record of when its call was sent.
--          Without that it would count as a call at its new moment. A probe that was not sent allows the next one.
-- include clock
if redis.call('LREM', windows[1].window, 1, stamp) == 0 then return '0' end
if windows[2] then redis.call('LREM', windows[2].window, 1, stamp) end
if note == '' then
  if redis.call('HGET', health, 'probing') == stamp then redis.call('HDEL', health, 'probe_until_us') end
  local noted = event_id ~= '' and redis.call('HGET', calls, event_id)
  if noted then
    redis.call('HSET', calls, event_id, string.match(noted, '^%d+:') or '')
    local lease = tonumber(redis.call('ZSCORE', inflight, event_id) or 0)
    if lease > 0 then redis.call('ZADD', inflight, us(-lease), event_id) end
  end
  return '0'
end
local from = math.max(now_us() - ago_us, tonumber(stamp))
if ago_us == 0 then  -- from now means from the newest slot on, whatever the clock does
  for _, one in ipairs(windows) do from = math.max(from, tonumber(redis.call('LINDEX', one.window, 0) or 0)) end
end
local blocked = us(from)
for _, one in ipairs(windows) do  -- each list stays in order
  local place = 0
  while tonumber(redis.call('LINDEX', one.window, place) or 0) > from do place = place + 1 end
  local older = redis.call('LINDEX', one.window, place)
  if older then
    redis.call('LINSERT', one.window, 'BEFORE', older, blocked)
  else
    redis.call('RPUSH', one.window, blocked)
  end
end
if shortest_us ~= cjson.null and from - stamp + ago_us >= shortest_us then
  for _, one in ipairs(windows) do
    redis.call('LPUSH', one.moved, blocked .. ' ' .. stamp)
    redis.call('LTRIM', one.moved, 0, most - 1)
    redis.call('PEXPIRE', one.moved, one.kept_ms)
  end
end
if event_id ~= '' and redis.call('HEXISTS', calls, event_id) == 1 then
  redis.call('HSET', calls, event_id, (string.gsub(note, '%%s', blocked)))
end
return blocked

--- look_windows(epoch; keep_us: number, windows: json)
-- Looks at the windows of endpoints and budgets without taking slots; begins the rest that a longer rule needs.
-- epoch    hash: since, before which windows are not trusted; underway_us, for how much longer
-- keep_us  how long slots are kept, at least
-- windows  {window, health, rules} of each, as in acquire_slot
-- Returns  {now_us, windows}: for each of them {free, wait_us, rest_us, suspect, held_us, paused_us}: free slots; the time to
--          the next one; what is left of a rest of any kind; whether it rested because of its answers and no probe has
--          been answered well since; what is left of a rest because its window cannot be trusted; and of a pause
-- One script because the answer must be of one instant, by the clock of the stamps.
-- include replies
-- include clock
-- include stamps
-- include trust
local now, trust, looks = now_us(), trust_of(epoch), {}
for index, one in ipairs(windows) do
  local health = health_of(one.health)
  restamp_ahead(now, one.window)  -- here too, because nobody asks a shut window for a slot
  local free, wait, longest = math.huge, 0, 0
  for _, rule in ipairs(one.rules) do
    local limit, span = rule[1], rule[2]
    local taken = younger(one.window, now - span, limit)
    free = math.min(free, limit - taken)
    if taken == limit then
      wait = math.max(wait, redis.call('LINDEX', one.window, limit - 1) + span - now)
    end
    longest = math.max(longest, span)
  end
  local held = math.max(0, held_for(now, one, health, keep_us, longest, trust))
  local paused = math.max(0, health.paused - now)
  local rest = math.max(held, paused, health.rest - now)
  wait = math.max(wait, rest)
  if health.probing then
    free = math.min(free, 1)
    wait = math.max(wait, health.probe - now)
  end
  if wait > 0 then free = 0 end
  looks[index] = named{free = free, wait_us = math.ceil(wait), rest_us = math.ceil(rest), suspect = health.probing and 1 or 0,
    held_us = math.ceil(held), paused_us = math.ceil(paused)}
end
return named{now_us = us(now), windows = looks}

--- count_slots(; windows: json)
-- Counts the slots of windows that were taken within each of several periods, and changes nothing.
-- windows  {window, spans} of each: list of slots, newest first; periods in microseconds
-- Returns  for each window the numbers of slots younger than its periods, in one list
-- One script because the numbers must be of one instant; a window may hold a day of slots, so it uses binary search.
-- include clock
-- include stamps
local now, counts = now_us(), {}
for _, one in ipairs(windows) do
  for _, span in ipairs(one.spans) do counts[#counts + 1] = younger(one.window, now - span) end
end
return counts

--- join_budget(lease, budgets, window, health, shared, account; token, endpoint, budget, keep_ms: number)
-- Counts the earlier calls of an endpoint on its new budget, each once.
-- lease     hash with the fencing token
-- budgets   hash: window id of an endpoint -> window id of the budget that its calls are counted on;
--          both ids -> when an earlier pairing ended, microseconds of Redis time
-- window    list of the endpoint's slots: stamps in microseconds of Redis time, newest first
-- health    hash of the endpoint: kept_us
-- shared    list of the budget's slots; any other key if the endpoint has none
-- account   hash of the budget's health: kept_us; likewise
-- token
-- endpoint  its window id
-- budget    its window id, or empty if the endpoint no longer has one
-- keep_ms   how long the budget's slots are kept, at least
-- Returns  how many slots the budget got
-- Atomic because slots are taken meanwhile, and the list of them must stay in order.
-- include clock
-- include fencing
if fenced(lease, token) then return FENCED end
local counted_on = redis.call('HGET', budgets, endpoint) or ''
if counted_on == budget then return 0 end
local now = now_us()
if counted_on ~= '' then  -- calls that were made under the old budget stay counted there
  redis.call('HSET', budgets, endpoint .. ' ' .. counted_on, us(now))
  redis.call('HDEL', budgets, endpoint)
end
if budget == '' then return 0 end
redis.call('HSET', budgets, endpoint, budget)
local left = tonumber(redis.call('HGET', budgets, endpoint .. ' ' .. budget) or 0)
local kept = tonumber(redis.call('HGET', health, 'kept_us') or 0)
if left + kept < now and kept > 0 then  -- earlier calls are unknown to the budget, so longer rules make it rest
  kept = math.min(kept, tonumber(redis.call('HGET', account, 'kept_us') or kept))
  redis.call('HSET', account, 'kept_us', us(kept))
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

--- slots
-- Takes slots of windows, according to their rules and health.
-- Gives  ask_slot(now, of, cost, keep_us, trust)  microseconds until it has them, -1 for never; and the slot.
--          of: {window, health, rules} as in acquire_slot; trust: as `trust_of` returns it
--        take_slot(now, slot, cost, probe_us)  takes slots that `ask_slot` found free
-- include clock
-- include stamps
-- include trust
local function ask_slot(now, of, cost, keep_us, trust)
  local newest = tonumber(redis.call('LINDEX', of.window, 0) or nil)
  if newest and newest > now then
    restamp_ahead(now, of.window)
    newest = now
  end
  local health = health_of(of.health)
  local wait, longest = 0, 0
  for _, rule in ipairs(of.rules) do
    local limit, span = rule[1], rule[2]
    if cost > limit then return -1 end
    if newest and newest + span > now then  -- otherwise none of its slots counts any more
      wait = math.max(wait, (redis.call('LINDEX', of.window, limit - cost) or -math.huge) + span - now)
    end
    longest = math.max(longest, span)
  end
  local held = held_for(now, of, health, keep_us, longest, trust)
  local keep = math.max(keep_us, longest)
  if health.kept ~= keep then redis.call('HSET', of.health, 'kept_us', us(keep)) end
  wait = math.max(wait, held, health.rest - now, health.paused - now, health.probing and health.probe - now or 0)
  return math.ceil(wait), {window = of.window, health = of.health, keep = keep, newest = newest,
    probing = health.probing, suspect = (health.probing or health.failures) and true or false}
end
local function take_slot(now, slot, cost, probe_us)
  local stamp = us(now)
  for _ = 1, cost do redis.call('LPUSH', slot.window, stamp) end
  -- Removing old slots once a minute is enough.
  if not slot.newest or math.floor(slot.newest / 60000000) ~= math.floor(now / 60000000) then
    redis.call('LTRIM', slot.window, 0, younger(slot.window, now - slot.keep) - 1)
    redis.call('PEXPIRE', slot.window, math.ceil(slot.keep / 1000) + 60000)
  end
  if slot.probing then
    redis.call('HSET', slot.health, 'probing', stamp, 'probe_until_us', us(now + probe_us))
  end
end

--- trust
-- Reads since when windows are trusted, and what the health of an endpoint says of its next slot.
-- Gives  trust_of(epoch)  {server, since, underway, ways} of the epoch; no server if its key holds something else: then
--                         there is no slot, but a turn still settles
--        health_of(key)  {rest, held, paused, probe: until when, microseconds; kept: how far back slots are kept;
--                        probing, failures}
--        held_for(now, of, health, keep_us, longest, trust)  how long a window is held because not all its slots may be
--                        known: of: {window, health}; longest: span of its longest rule
-- include clock
local function trust_of(epoch)
  local raw = redis.pcall('HMGET', epoch, 'server', 'since', 'underway_us', 'ways')
  return {server = raw[1], since = tonumber(raw[2] or -math.huge), underway = tonumber(raw[3] or 0), ways = raw[4]}
end
local function health_of(key)
  local raw = redis.call('HMGET', key, 'rest_until_us', 'held_until_us', 'paused_until_us', 'probe_until_us', 'kept_us',
    'probing', 'failures')
  return {rest = tonumber(raw[1] or 0), held = tonumber(raw[2] or 0), paused = tonumber(raw[3] or 0),
    probe = tonumber(raw[4] or 0), kept = tonumber(raw[5] or 0), probing = raw[6], failures = raw[7]}
end
local function held_for(now, of, health, keep_us, longest, trust)
  local held = math.max(health.held, trust.since + trust.underway + longest) - now
  if health.kept > 0 and longest > health.kept then  -- the rule is longer than slots were kept: wait until enough are
    held = math.max(held, longest - health.kept)
    local keep = math.max(keep_us, longest)
    redis.call('HSET', of.health, 'held_until_us', us(now + held), 'kept_us', us(keep))
    redis.call('PEXPIRE', of.window, math.ceil(keep / 1000) + 60000)  -- as in take_slot
  end
  return held
end

--- stamps
-- Reads and mends the list of a window's slots.
-- Gives  restamp_ahead(now, window)  makes slots that lie ahead of the clock, which was set back, count as taken just now
--        younger(window, than, most)  the slots that are younger than a moment, by binary search, because a window may
--                                     hold a day of slots; than: microseconds of Redis time; most: to count, or nil
-- include clock
local function restamp_ahead(now, window)
  local ahead = 0
  while (tonumber(redis.call('LINDEX', window, ahead) or nil) or 0) > now do
    redis.call('LSET', window, ahead, us(now))
    ahead = ahead + 1
  end
end
local function younger(window, than, most)
  local low, high = 0, math.min(most or math.huge, redis.call('LLEN', window))
  if high > 0 and (tonumber(redis.call('LINDEX', window, high - 1)) or 0) > than then return high end  -- mostly all are
  while low < high do
    local middle = math.floor((low + high) / 2)
    if (tonumber(redis.call('LINDEX', window, middle)) or 0) > than then low = middle + 1 else high = middle end
  end
  return low
end
