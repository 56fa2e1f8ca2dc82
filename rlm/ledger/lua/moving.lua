-- Moves events between ready, due and settled: an event is in exactly one of them at any instant. The zset `due` has `ID` of
-- an event in flight, by the end of its lease, and `later ID` of one that backs off, by its end.
local function event_key(id) return P .. 'event:' .. id end
local function kind_of(id) return string.match(id, ':([^:]*)$') or id end
local function wake(why) call('PUBLISH', P .. 'wake:workers', why) end
local function count(what, by) try('HINCRBY', P .. 'tally', what, by or 1) end
local function lease_end(timeout, deadline) return math.min(now + timeout, deadline) + SLACK end
-- Scores and events; what else stood there was not RLM's.
local function line_up(kind, ...)
  local ready = P .. 'ready:' .. kind
  if type(try('ZADD', ready, ...)) == 'table' then
    call('DEL', ready)
    call('ZADD', ready, ...)
  end
end
-- It waits again; behind: the others of its priority.
local function make_ready(id, behind)
  local event, kind = event_key(id), kind_of(id)
  local score = number(redis.pcall('HGET', event, 'score'))
  if behind then  -- its priority stays, its age becomes that of the newest arrival
    score = math.floor(score / PRIORITY_STEP) * PRIORITY_STEP + call('HINCRBY', P .. 'lease', 'sequence', 1)
    redis.pcall('HSET', event, 'score', score)
  end
  redis.pcall('HDEL', event, 'owner')
  line_up(kind, score, id)
  index(kind)
end
-- A call remains in the log, if it may have been sent, in the counts of its endpoint, and in the trail of its event, which keeps the
-- newest 50. made: as it is settled; record: of the event, with taken_at and trail; tried: empty if no attempt is spent.
local function note_call(run_id, made, record, tried)
  local id, endpoint, finish, calls = made.event_id, made.endpoint, made.finish, number(record.trail) + 1
  if made.sent then
    local age_ms = math.max(0, now / 1000 - 1000 * (tonumber(record.taken_at) or now / 1000000))
    local window = windows_of(endpoint)[1]
    try('XADD', P .. 'calls', 'MAXLEN', '~', 500000, '*', 'c', table.concat({run_id, kind_of(id), endpoint,
      window and window.id or '-', us(made.stamp), finish, made.took_ms or '0', us(age_ms), id, us(made.number)}, ' '))
  end
  count((finish == 'completed' and 'delivered:' or finish == 'throttled' and 'throttled:' or 'errors:') .. endpoint)
  if made.kind then count('trouble:' .. endpoint .. ' ' .. made.kind) end
  call('HSET', event_key(id), 'trail', calls, 't' .. calls % 50, us(now) .. ' ' .. made.entry, unpack{tried and 'tried', tried})
end
-- It is settled, and kept for `dedupe_ms` without its item to recognise duplicates; letter: of one that has failed.
local function retire(id, letter)
  local event, state = event_key(id), letter and 'failed' or 'completed'
  if letter then call('LPUSH', failed, letter) end
  count(state .. ':' .. kind_of(id))
  if dedupe_ms <= 0 or type(redis.pcall('HDEL', event, 'item', 'owner')) ~= 'number' then return call('DEL', event) end
  call('HSET', event, 'state', state, unpack{letter and 'letter', letter and redis.sha1hex(letter)})
  call('PEXPIRE', event, dedupe_ms)
end
-- The claim of an event, with what a settlement needs of it; nil if no lane has it.
local function claimed(id)
  local values = redis.pcall('HMGET', event_key(id), 'claims', 'owner', 'trail', 'taken_at')
  local lane, stamp, endpoint = string.match(values[2] or '', '^(%S+ %d+) (%d+) (.*)$')
  return lane and {claims = values[1], lane = lane, stamp = stamp, endpoint = endpoint, trail = values[3], taken_at = values[4]}
end
-- What is known of an event's attempts: how many in all runs, in how many runs all of them, how many in the run named, where the last.
local function attempts(tried) return string.match(tried or '0 0 0 - ', '^(%d+) (%d+) (%d+) (%S+) (.*)$') end
-- A claim ends without an answer: its call counts as sent now, for it may have been sent. The caller then moves the event.
local function revoke(id, text, kind)
  local record = claimed(id)
  call('ZREM', P .. 'due', id)
  if not record then return end
  local run_id, endpoint = call('HGET', P .. 'run', 'run_id') or '', record.endpoint
  local attempt, runs, tries, tried_in = attempts(call('HGET', event_key(id), 'tried'))
  stamp_call(endpoint, id .. ' ' .. record.claims, now)
  refresh(endpoint)
  local entry = cjson.encode{run_id, attempt + 1, endpoint, 'unknown', text, cjson.null, string.match(record.lane, '^[^: ]*')}
  note_call(run_id, {event_id = id, number = number(record.claims), endpoint = endpoint, stamp = number(record.stamp), sent = true,
    finish = 'unknown', kind = kind or 'worker lost', entry = entry}, record, table.concat({attempt + 1, runs, tries, tried_in, endpoint}, ' '))
end
local function put_back(member, text, kind)
  local later = string.match(member, '^later (.*)')
  if later then call('ZREM', P .. 'due', member) else revoke(member, text, kind) end
  make_ready(later or member)
end
-- Whether anything is or may get under way before the deadline: also what backs off until 2 s behind it, because the lease of a
-- call may end so late, and what is paused until somebody resumes it, which is later than any other moment.
local function may_go_on(deadline, opens_at, due_at)
  return math.min(opens_at, due_at - SLACK) <= deadline or call('ZCOUNT', P .. 'open', '(' .. us(FAR), '+inf') > 0
end
-- Makes events ready that are neither unsettled nor remembered, the first of equal ones; returns how many. events: {id, wallet,
-- offset} of each; item_of(event): its item.
local function enter(events, item_of)
  local scored, new, arrivals = {}, 0, call('HINCRBY', P .. 'lease', 'sequence', 0)
  for _, event in ipairs(events) do
    local id, key = event[1], event_key(event[1])
    local fields = redis.pcall('HLEN', key)
    if type(fields) == 'table' then fields = call('DEL', key) - 1 end  -- no event, so this is no duplicate
    if fields == 0 then
      new = new + 1
      local kind, score = kind_of(id), event[3] + arrivals + new
      call('HSET', key, 'wallet', event[2], 'item', item_of(event), 'score', score, 'taken_at', now / 1000000)
      local scores = scored[kind] or {}
      scores[#scores + 1], scores[#scores + 2], scored[kind] = score, id, scores
    end
  end
  for kind, scores in pairs(scored) do
    local was_empty = call('EXISTS', P .. 'ready:' .. kind) == 0
    line_up(kind, unpack(scores))
    count('taken:' .. kind, #scores / 2)
    index(kind)
    if was_empty and running then wake('ready') end
  end
  call('HINCRBY', P .. 'lease', 'sequence', new)
  return new
end
