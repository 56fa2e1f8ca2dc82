--- moving
-- Moves events between ready, in flight, backing off and settled: an event is in exactly one of them at any instant.
-- Gives  event_key(id), kind_of(id)
--        wake(why)                      wakes the lanes that wait
--        count(what)                    counts for the run
--        lease_end(now, timeout, deadline)  until when a call that begins now may be under way
--        make_ready(id, behind)         it waits again; behind: the others of its priority
--        log_call(now, run_id, id, call, finish, took_ms, taken_at)  writes a call to the log: call {endpoint, claims, stamp};
--                                       finish: how it ended; took_ms: the call, as text; taken_at: of its event
--        bury(failed, id, letter, dedupe_ms)  it becomes a dead letter, and is kept without its item to recognise duplicates
--        revoke(now, run_id, id, why)   its claim ends without an answer: its call counts as sent now, for it may have been
--                                       sent; the caller then moves the event
-- include endpoints
-- include trail
local function event_key(id) return P .. 'event:' .. id end
local function kind_of(id) return string.match(id, '[^:]*$') end
local function wake(why) redis.call('PUBLISH', P .. 'wake:workers', why) end
local function count(what) redis.call('HINCRBY', P .. 'tally', what, 1) end
local function lease_end(now, timeout, deadline) return math.min(now + timeout, deadline) + 2000000 end
local function make_ready(id, behind)
  local event, kind = event_key(id), kind_of(id)
  local score = redis.pcall('HGET', event, 'score')
  score = type(score) == 'string' and tonumber(score) and score or '0'
  if behind then  -- its priority stays, its age becomes that of the newest arrival
    score = us(math.floor(score / 4398046511104) * 4398046511104 + redis.call('HINCRBY', P .. 'lease', 'sequence', 1))
    redis.pcall('HSET', event, 'score', score)
  end
  redis.pcall('HDEL', event, 'owner')
  try('ZADD', P .. 'ready:' .. kind, score, id)  -- if it holds something else, the event is put back as a stray
  index(kind)
end
local function log_call(now, run_id, id, call, finish, took_ms, taken_at)
  local of = rules_of(call.endpoint)
  local age_ms = taken_at and math.max(0, now / 1000 - taken_at * 1000) or 0
  redis.call('XADD', P .. 'calls', 'MAXLEN', '~', 500000, '*', 'c', table.concat({run_id, kind_of(id), call.endpoint,
    of and of.window or '-', us(tonumber(call.stamp)), finish, took_ms, us(age_ms), id, us(call.claims)}, ' '))
end
local function bury(failed, id, letter, dedupe_ms)
  local event = event_key(id)
  redis.call('LPUSH', failed, letter)
  count('failed:' .. kind_of(id))
  if dedupe_ms <= 0 or type(redis.pcall('HLEN', event)) ~= 'number' then return redis.call('DEL', event) end
  redis.call('HDEL', event, 'item', 'owner')
  redis.call('HSET', event, 'letter', redis.sha1hex(letter), 'state', 'failed')
  redis.call('PEXPIRE', event, dedupe_ms)
end
local function revoke(now, run_id, id, why)
  local event = event_key(id)
  local raw = redis.pcall('HMGET', event, 'owner', 'claims', 'endpoint', 'stamp', 'attempt')
  local owner, claims, endpoint, stamp, attempt = unpack(raw, 1, 5)
  redis.call('ZREM', P .. 'inflight', id)
  if raw.err or not owner or owner == '' or not endpoint then return end
  local worker, lane = string.match(owner, '^(%S+) (%S+)$')
  local note = worker and redis.call('HGET', P .. 'held:' .. worker, lane)
  local n, held_claims = string.match(note or '', '^(%d+) (%d+) ')
  if held_claims == claims then redis.call('HSET', P .. 'held:' .. worker, lane, n) end  -- its lane is free, as far as is known
  stamp_call(endpoint, id .. ' ' .. claims, now)
  refresh(now, endpoint)
  log_call(now, run_id, id, {endpoint = endpoint, claims = claims, stamp = stamp}, 'unknown', '0')
  count('errors:' .. endpoint)
  count('trouble:' .. endpoint .. ' ' .. (why.kind or 'worker lost'))
  redis.call('HSET', event, 'attempt', (tonumber(attempt) or 0) + 1, 'last', endpoint)
  append_trail(event, now, cjson.encode({run_id, (tonumber(attempt) or 0) + 1, endpoint, 'unknown', why.text, cjson.null,
    string.match(owner, '^[^: ]*')}))
end
