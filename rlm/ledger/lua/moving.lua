--- moving
-- Moves events between ready, due and settled: an event is in exactly one of them at any instant. The zset `due` has `ID` of
-- an event in flight, by the end of its lease, and `later ID` of one that backs off, by its end.
-- include endpoints
local function event_key(id) return P .. 'event:' .. id end
local function kind_of(id) return string.match(id, ':([^:]*)$') or id end
local function wake(why) call('PUBLISH', P .. 'wake:workers', why) end
local function count(what, by) try('HINCRBY', P .. 'tally', what, by or 1) end
local function lease_end(now, timeout, deadline) return math.min(now + timeout, deadline) + 2000000 end
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
  local score = redis.pcall('HGET', event, 'score')
  score = type(score) == 'string' and tonumber(score) and score or '0'
  if behind then  -- its priority stays, its age becomes that of the newest arrival
    score = us(math.floor(score / PRIORITY_STEP) * PRIORITY_STEP + call('HINCRBY', P .. 'lease', 'sequence', 1))
    redis.pcall('HSET', event, 'score', score)
  end
  redis.pcall('HDEL', event, 'owner')
  line_up(kind, score, id)
  waiting[kind] = true
  index(kind)
end
-- An entry as it stands in the trail of an event, which keeps the newest 50: `t` and the number of the call, modulo 50.
local function trail_entry(now, entry)
  return string.format('%d %d ', math.floor(now / 1000000), now % 1000000) .. entry
end
local function log_call(now, run_id, id, finish, took_ms, taken_at, endpoint, claims, stamp)
  local age_ms = taken_at and math.max(0, now / 1000 - taken_at * 1000) or 0
  call('XADD', P .. 'calls', 'MAXLEN', '~', 500000, '*', 'c', table.concat({run_id, kind_of(id), endpoint,
    window_of(endpoint) or '-', stamp, finish, took_ms, us(age_ms), id, claims}, ' '))
end
-- It becomes a dead letter, and is kept without its item to recognise duplicates.
local function bury(failed, id, letter, dedupe_ms)
  local event = event_key(id)
  call('LPUSH', failed, letter)
  count('failed:' .. kind_of(id))
  if dedupe_ms <= 0 or type(redis.pcall('HLEN', event)) ~= 'number' then return call('DEL', event) end
  call('HDEL', event, 'item', 'owner')
  call('HSET', event, 'letter', redis.sha1hex(letter), 'state', 'failed')
  call('PEXPIRE', event, dedupe_ms)
end
-- A claim ends without an answer: its call counts as sent now, for it may have been sent. The caller then moves the event.
local function revoke(now, run_id, id, why)
  local event = event_key(id)
  local record = redis.pcall('HMGET', event, 'owner', 'claims', 'endpoint', 'stamp', 'attempt', 'trail')
  call('ZREM', P .. 'due', id)
  if record.err or not record[1] or not record[3] then return end
  local owner, claims, endpoint, stamp = unpack(record)
  local attempt, calls = number(record[5]) + 1, number(record[6]) + 1
  local worker, lane = string.match(owner, '^(%S+) (%S+)$')
  local n, noted = string.match(worker and call('HGET', P .. 'held:' .. worker, lane) or '', '^(%d+) (%d+) ')
  if noted == claims then call('HSET', P .. 'held:' .. worker, lane, n) end  -- its lane is free, as far as is known
  stamp_call(endpoint, id .. ' ' .. claims, now)
  refresh(now, endpoint)
  log_call(now, run_id, id, 'unknown', '0', nil, endpoint, claims, stamp)
  count('errors:' .. endpoint)
  count('trouble:' .. endpoint .. ' ' .. (why.kind or 'worker lost'))
  local entry = {run_id, attempt, endpoint, 'unknown', why.text, cjson.null, string.match(owner, '^[^: ]*')}
  call('HSET', event, 'attempt', attempt, 'last', endpoint, 'trail', calls,
    't' .. calls % 50, trail_entry(now, cjson.encode(entry)))
end
local function put_back(now, run_id, member, why)
  local later = string.match(member, '^later (.*)')
  if later then call('ZREM', P .. 'due', member) else revoke(now, run_id, member, why) end
  make_ready(later or member)
end
-- Whether anything is or may get under way before the deadline. What backs off until 2 s behind it counts, because the lease
-- of a call may end so late.
local function may_go_on(deadline, opens_at, due_at) return math.min(opens_at, due_at - 2000000) <= deadline end
-- Makes events ready that are neither unsettled nor remembered, the first of equal ones; returns how many. events: {id, wallet,
-- offset} of each; item_of(event): its item.
local function enter(events, item_of)
  local taken_at, scored, new = string.format('%.3f', now_us() / 1000000), {}, 0
  local arrivals = call('HINCRBY', P .. 'lease', 'sequence', 0)
  for _, event in ipairs(events) do
    local id, key = event[1], event_key(event[1])
    local fields = redis.pcall('HLEN', key)
    if type(fields) == 'table' then fields = call('DEL', key) - 1 end  -- no event, so this is no duplicate
    if fields == 0 then
      new = new + 1
      local kind, score = kind_of(id), us(event[3] + arrivals + new)
      call('HSET', key, 'wallet', event[2], 'item', item_of(event), 'score', score, 'taken_at', taken_at)
      local scores = scored[kind] or {}
      scores[#scores + 1], scores[#scores + 2], scored[kind] = score, id, scores
    end
  end
  for kind, scores in pairs(scored) do
    local was_empty = call('EXISTS', P .. 'ready:' .. kind) == 0
    line_up(kind, unpack(scores))
    count('taken:' .. kind, #scores / 2)
    if was_empty then
      index(kind)
      if running then wake('ready') end
    end
  end
  call('HINCRBY', P .. 'lease', 'sequence', new)
  return new
end
