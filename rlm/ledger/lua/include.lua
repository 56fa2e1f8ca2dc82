--- clock
-- Reads the clock of Redis.
-- Gives  us(microseconds)  as text, because tostring would lose digits
--        now_us()          microseconds since 1970
local function us(microseconds)
  return string.format('%.0f', microseconds)
end
local function now_us()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

--- replies
-- Builds replies with names.
-- Gives  named(fields)  the names and values in one list; a field that is nil is left out; numbers must be whole
local function named(fields)
  local list = {}
  for name, value in pairs(fields) do
    if type(value) == 'boolean' then value = value and 1 or 0 end
    list[#list + 1] = name
    list[#list + 1] = value
  end
  return list
end

--- fencing
-- Refuses a conductor that has lost its lease to another, or whose run is no longer open.
-- Gives  FENCED                   the answer then
--        fenced(lease, token)     whether another conductor has the lease
--        fenced_run(run, run_id)  whether that run is no longer open
local FENCED = redis.error_reply('FENCED by another conductor')
local function fenced(lease, token)
  return redis.call('HGET', lease, 'token') ~= token
end
local function fenced_run(run, run_id)
  return redis.call('HGET', run, 'run_id') ~= run_id
end

--- now
-- Reads the clock of Redis.
-- Gives  time   {seconds, microseconds} since 1970, as text
--        now    the same time in microseconds
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

--- fence
-- Refuses a conductor that has lost its lease to another.
-- Uses   lease, token
if redis.call('HGET', lease, 'token') ~= token then return redis.error_reply('FENCED by another conductor') end

--- fence_run
-- Refuses a conductor whose run is no longer open.
-- Uses   run, run_id
if redis.call('HGET', run, 'run_id') ~= run_id then return redis.error_reply('FENCED by another conductor') end

--- score_of
-- Reads the order score of an event.
-- Gives  score_of(event)  '0' if it cannot be read: the event goes first, so that its release reveals the fault
local function score_of(event)
  local score = redis.pcall('HGET', event, 'score')
  return type(score) == 'string' and tonumber(score) and score or '0'
end

--- append_trail
-- Writes the entry of a call into the trail of its event, which keeps the newest 50.
-- Gives  append_trail(event, entry)  a key that is not an event stays unchanged
local function append_trail(event, entry)
  local time = redis.call('TIME')
  local place = string.format('t%d', (tonumber(redis.pcall('HINCRBY', event, 'trail', 1)) or 0) % 50)
  redis.pcall('HSET', event, place, time[1] .. ' ' .. time[2] .. ' ' .. entry)
end

--- settle_event
-- Ends an event: it is kept for a while without its item, to recognise duplicates, or deleted at once.
-- Gives  settle_event(event, state, dedupe_ms)
local function settle_event(event, state, dedupe_ms)
  if dedupe_ms <= 0 then return redis.call('DEL', event) end
  redis.call('HDEL', event, 'item', 'owner')
  redis.call('HSET', event, 'state', state)
  redis.call('PEXPIRE', event, dedupe_ms)
end

--- lost_claim
-- Ends the script if the claim is no longer the worker's; the note of a newer claim by the same worker stays.
-- Uses   claim  {owner, claims} of the event, or the error of reading it, and worker, number, calls, event_id
if claim.err then return claim end
if claim[1] ~= worker or claim[2] == number then redis.call('HDEL', calls, event_id) end
if claim[1] ~= worker or claim[2] ~= number then return 0 end

--- restamp_ahead
-- Makes slots that lie ahead of the clock, which was set back, count as taken just now.
-- Uses   now
-- Gives  restamp_ahead(window)
local function restamp_ahead(window)
  local ahead = 0
  while (tonumber(redis.call('LINDEX', window, ahead) or nil) or 0) > now do
    redis.call('LSET', window, ahead, string.format('%.0f', now))
    ahead = ahead + 1
  end
end

--- younger
-- Counts the slots of a window that are younger than a moment, by binary search; a window may hold a day of slots.
-- Gives  younger(window, than, most)  than: microseconds of Redis time; most: the maximum to count, or nil
local function younger(window, than, most)
  local low, high = 0, math.min(most or math.huge, redis.call('LLEN', window))
  if high > 0 and (tonumber(redis.call('LINDEX', window, high - 1)) or 0) > than then return high end  -- mostly all are
  while low < high do
    local middle = math.floor((low + high) / 2)
    if (tonumber(redis.call('LINDEX', window, middle)) or 0) > than then low = middle + 1 else high = middle end
  end
  return low
end

--- record_change
-- Records a change of the live system.
-- Uses   time
-- Gives  quoted(text)  text as JSON
--        record_change(changes, kept, before, record)  before: JSON of the old value; kept: number of records kept
local function quoted(text)
  return '"' .. string.gsub(text, '[%c"\\]', ' ') .. '"'
end
local function record_change(changes, kept, before, record)
  local at = string.format('{"at":%d.%06d,"from":', time[1], time[2])
  redis.call('LPUSH', changes, at .. before .. ',' .. string.sub(record, 2))
  redis.call('LTRIM', changes, 0, kept - 1)
end

--- ways
-- Reads and writes the ways of hosts to endpoints.
-- Uses   now
-- Gives  read_way(ways, host, window)  {failures in a row, since, till, rest, probing, why}, nil without trouble;
--        probing: 1 by a call, 2 by a connection that a call may follow, else 0
--        ways_of(ways, host)  the ways of a host, by the field of the hash
--        is_shut(way)  whether no call may go there now; a rest too far ahead comes from a clock that was set back
--        write_way(ways, epoch, host, window, way)
--        note_well(well, hosts, host, recent_us)  notes that a call of a host was answered; errors are ignored
local WAY = '^(%d+) (%d+) (%d+) (%d+) (%d) (.*)$'
local function parsed(raw)
  local failures, since, till, rest, probing, why = string.match(raw or '', WAY)
  if not failures then return end
  return {failures = tonumber(failures), since = tonumber(since), till = tonumber(till), rest = tonumber(rest),
    probing = tonumber(probing), why = why}
end
local function read_way(ways, host, window)
  return parsed(redis.call('HGET', ways, host .. ' ' .. window))
end
local function ways_of(ways, host)
  local told, found = redis.call('HGETALL', ways), {}
  for place = 1, #told, 2 do
    if string.sub(told[place], 1, #host + 1) == host .. ' ' then found[told[place]] = parsed(told[place + 1]) end
  end
  return found
end
local function is_shut(way)
  return way.till > now and way.till - now <= 3600000000
end
local function write_way(ways, epoch, host, window, way)
  redis.call('HSET', ways, host .. ' ' .. window, string.format('%d %.0f %.0f %.0f %d %s', way.failures, way.since,
    way.till, way.rest, way.probing, way.why or ''))
  redis.call('HSET', epoch, 'ways', 1)
end
local function note_well(well, hosts, host, recent_us)
  for _, list in ipairs({well, hosts}) do
    redis.pcall('ZADD', list, string.format('%.0f', now), host)
    redis.pcall('ZREMRANGEBYSCORE', list, '-inf', string.format('(%.0f', now - recent_us))
  end
end

--- old_slots
-- Takes slots of windows, according to their rules and health.
-- Uses   now, restamp_ahead, younger
-- Gives  ask_slot(window, health, cost, rules, keep_us, trust)  microseconds until it has them, -1 for never; and the slot
--          rules: {{limit, span in microseconds}, ...}; trust: {server, since, underway_us} of the epoch
--        take_slot(slot, cost, stamp, probe_us)  takes slots that `ask_slot` found free
local function ask_slot(window, health, cost, rules, keep_us, trust)
  local newest = tonumber(redis.call('LINDEX', window, 0) or nil)
  if newest and newest > now then
    restamp_ahead(window)
    newest = now
  end
  local told = redis.call('HMGET', health, 'rest_until_us', 'probing', 'probe_until_us', 'failures', 'kept_us',
    'held_until_us', 'paused_until_us')
  local wait, longest = 0, 0
  for _, rule in ipairs(rules) do
    local limit, span = rule[1], rule[2]
    if cost > limit then return -1 end
    if newest and newest + span > now then  -- otherwise none of its slots counts any more
      wait = math.max(wait, (redis.call('LINDEX', window, limit - cost) or -math.huge) + span - now)
    end
    longest = math.max(longest, span)
  end
  local held = math.max(tonumber(told[6] or 0), (trust[2] or -math.huge) + (trust[3] or 0) + longest) - now
  local kept, keep = tonumber(told[5] or 0), math.max(keep_us, longest)
  if kept > 0 and longest > kept then  -- the rule is longer than slots were kept: wait until enough are kept
    held = math.max(held, longest - kept)
    redis.call('HSET', health, 'held_until_us', string.format('%.0f', now + held))
    redis.call('PEXPIRE', window, math.ceil(keep / 1000) + 60000)
  end
  if kept ~= keep then redis.call('HSET', health, 'kept_us', string.format('%.0f', keep)) end
  wait = math.max(wait, held, (told[1] or 0) - now, (told[7] or 0) - now, (told[2] and told[3] or 0) - now)
  return math.ceil(wait), {window = window, health = health, keep = keep, newest = newest, probing = told[2],
    suspect = told[2] or told[4]}
end
local function take_slot(slot, cost, stamp, probe_us)
  for _ = 1, cost do redis.call('LPUSH', slot.window, stamp) end
  -- Removing old slots once a minute is enough.
  if not slot.newest or math.floor(slot.newest / 60000000) ~= math.floor(now / 60000000) then
    redis.call('LTRIM', slot.window, 0, younger(slot.window, now - slot.keep) - 1)
    redis.call('PEXPIRE', slot.window, math.ceil(slot.keep / 1000) + 60000)
  end
  if slot.probing then
    redis.call('HSET', slot.health, 'probing', stamp, 'probe_until_us', string.format('%.0f', now + probe_us))
  end
end
