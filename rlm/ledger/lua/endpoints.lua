-- What all scripts use. Moments are microseconds since 1970, by the clock of Redis.
local P, call, time = prefix, redis.call, redis.call('TIME')
local now = time[1] * 1000000 + time[2]
-- As text, because `..` would lose digits; as an argument or in a reply a number keeps them.
local function us(microseconds) return string.format('%d', microseconds) end
local function number(text) return tonumber(text or nil) or 0 end
-- A change of the live system; before: the old value, or nil.
local function record_change(before, record)
  record.at, record.from = now / 1000000, before
  call('LPUSH', P .. 'changes', cjson.encode(record))
  call('LTRIM', P .. 'changes', 0, 999)
end
-- Like `call`, but for a key of another type the reply has `err`; without memory, say, the whole script fails.
local function try(...)
  local reply = redis.pcall(...)
  if type(reply) ~= 'table' or not reply.err or string.find(reply.err, 'WRONGTYPE', 1, true) then return reply end
  return call(...)
end
local function event_key(id) return P .. 'event:' .. id end
local function kind_of(id) return string.match(id, ':([^:]*)$') or id end
local function wake(why) call('PUBLISH', P .. 'wake:workers', why) end
local function count(what, by) try('HINCRBY', P .. 'tally', what, by or 1) end
-- The answer to a conductor that has lost its lease, or whose run is no longer open; who has no token conducts nothing.
local FENCED = {err = 'FENCED by another conductor'}
local function fenced(token) return token ~= '' and call('HGET', P .. 'lease', 'token') ~= token end

-- When endpoints take their next call. `rules` has what the leader publishes of them, packed: ENDPOINT -> its `EndpointRules`
-- of rlm/ledger/rules.py; `type TYPE` -> itself behind its rank; `sharing WINDOW` -> the endpoints of a budget. All spans are
-- in microseconds; those of rules have the guard in. A key that holds what RLM does not write closes its type or its
-- endpoint, and stops nothing else.
local FAR = 8000000000000000
local trusted = nil
-- Which server is trusted, nil if there is none yet; since when it is doubted, and the epoch, which is text (`doubt`).
local function trust()
  if not trusted then
    local raw = call('HMGET', P .. 'lease', 'server', 'epoch', 'doubted_us', 'parted')
    local epoch = tonumber(raw[2] or nil) and raw[2] or '1'  -- what is no number was written by others
    trusted = {server = raw[1] or nil, epoch = epoch, doubted = number(raw[3]), parted = raw[4] or nil}
  end
  return trusted
end
local function first(key)
  local entry = call('ZRANGE', key, 0, 0, 'WITHSCORES')
  return tonumber(entry[2] or nil) or math.huge, entry[1]
end
-- What is known of fields of `rules`.
local published = {}
local function rule(field)
  if published[field] == nil then
    local packed = call('HGET', P .. 'rules', field)
    published[field] = packed and cmsgpack.unpack(packed)
  end
  return published[field] or nil
end
local function windows_of(endpoint) return (rule(endpoint) or {windows = {}}).windows end
local function terms_of(endpoint, kind) return (rule(endpoint) or {types = {}}).types[kind] end
-- After a doubt, once for each window. Calls ahead of a clock that was set back count as taken now. A rule longer than an
-- hour is not held; instead, as many calls are charged as the endpoint made in a minute.
local function catch_up(window, key, place, since)
  for _, name in ipairs(call('ZRANGEBYSCORE', key, '(' .. us(now), '+inf')) do call('ZADD', key, now, name) end
  local newest = call('ZRANGE', key, -1, -1, 'WITHSCORES')[2]
  for charge = 1, window.charged and newest and call('ZCOUNT', key, newest - 60000000, '+inf') or 0 do
    call('ZADD', key, now, 'doubt ' .. trust().epoch .. ' ' .. charge)
  end
  if number(since) > now then call('HSET', place, 'since', now) end
  call('HDEL', place, 'well')
  call('HSET', place, 'epoch', trust().epoch)
end
-- When a window has `cost` slots, and when once more if they are taken now; then since when it fails. It makes up for a
-- doubt and for a longer rule, and forgets old calls.
local function left_at(window, cost)
  local key, place = P .. 'window:' .. window.id, P .. 'endpoint:' .. window.id
  local state = try('HMGET', place, 'rest', 'pause', 'known', 'since', 'epoch', 'longest', 'probe')
  if state.err then return FAR, FAR end
  local longest = number(state[6])
  if trust().doubted > 0 and state[5] ~= trust().epoch then catch_up(window, key, place, state[4]) end
  if window.keep > longest then  -- calls were not kept for so long: a rule waits until its span is known
    call('HSET', place, 'longest', window.keep)
    if longest > 0 and call('EXISTS', key) == 1 then
      state[3] = math.max(number(state[3]), now - longest)
      call('HSET', place, 'known', state[3])
    end
    longest = window.keep
  end
  local at = math.max(now, trust().doubted + window.longest, number(state[1]), number(state[2]), number(state[7]))
  local after = at
  for _, limit in ipairs(window.rules) do
    local nth, span = limit[1] - cost, limit[2]
    if nth < 0 then return FAR, FAR end
    at = math.max(at, number(state[3]) + span)
    local calls = try('ZREVRANGE', key, nth > 0 and nth - 1 or 0, nth, 'WITHSCORES')
    if calls.err then return FAR, FAR end
    local oldest = calls[nth > 0 and 4 or 2]
    if oldest then
      at = math.max(at, oldest + span)
      if oldest + span < now then  -- a thousand calls at a time, for a million take half a second
        -- The newest stays: it shows that there were calls.
        local gone = math.min(call('ZCOUNT', key, '-inf', now - math.max(window.keep, longest)), call('ZCARD', key) - 1)
        if gone > 0 then call('ZREMRANGEBYRANK', key, 0, math.min(gone, 1000) - 1) end
      end
    end
    -- The next oldest, if a call of now comes in.
    local next = nth == 0 and now or calls[2] and math.min(now, calls[2])
    if next then after = math.max(after, next + span) end
  end
  return at, math.max(at, after), state[4]
end
-- When it takes its next call, when the one after that, and whether it fails.
local function opens(endpoint)
  local of, at, after, failing = rule(endpoint), now, now, nil
  if not of then return FAR, FAR end
  for _, window in ipairs(of.windows) do
    local free_at, next_at, since = left_at(window, 1)
    at, after, failing = math.max(at, free_at), math.max(after, next_at), failing or since
  end
  return at, failing and math.max(after, now + of.timeout + SLACK) or after, failing
end
local running
-- The place of a type in `open`, while the run is running; when it starts, `reset` gives all their places.
local function index(kind)
  if running == nil then running = call('HGET', P .. 'run', 'state') == 'running' end
  local member = running and rule('type ' .. kind)
  if not member then return end
  local free, ready = try('ZRANGE', P .. 'free:' .. kind, 0, 0, 'WITHSCORES')[2], try('ZCARD', P .. 'ready:' .. kind)
  if free and number(ready) > 0 then call('ZADD', P .. 'open', free, member) else call('ZREM', P .. 'open', member) end
end
-- All endpoints may be free, as far as is known: they are looked at again.
local function reset()
  for _, field in ipairs(call('HKEYS', P .. 'rules')) do
    local kind = string.match(field, '^type (.*)')
    if kind then
      try('ZUNIONSTORE', P .. 'free:' .. kind, 1, P .. 'free:' .. kind, 'WEIGHTS', 0)
      index(kind)
    end
  end
end
-- The only other writer of `free:`, so that windows, rest, pause and hold cannot undo one another.
local function refresh(endpoint, at)
  local of = rule(endpoint)
  if not of then return end
  at = at or opens(endpoint)
  for kind, terms in pairs(of.types) do
    try('ZADD', P .. 'free:' .. kind, at > now and at or 0, terms[1] .. ' ' .. endpoint)
    index(kind)
  end
end
-- The endpoints with its budget, or it alone.
local function sharers(endpoint)
  local shared = windows_of(endpoint)[2]
  return shared and rule('sharing ' .. shared.id) or {endpoint}
end
-- All of these may be free earlier.
local function freed(endpoint)
  for _, name in ipairs(sharers(endpoint)) do refresh(name) end
end
-- The call counts from `at`, if that is later. Needs no ownership: one that may have been sent must count, whoever has its event.
local function stamp_call(endpoint, name, at)
  for _, window in ipairs(windows_of(endpoint)) do
    try('ZADD', P .. 'window:' .. window.id, 'GT', at, name)
  end
end

-- One rule for a Redis that may have forgotten calls, or whose clock stepped: every endpoint is held for its longest period,
-- once. The lease says since when (`doubted_us`), to which whoever computes when an endpoint is free adds that period; its epoch
-- grows with each doubt.
-- Doubts, if there is a reason; returns why, nil without one. server: that answers; epoch: as the asker knows it, nil or empty
-- if it knows none; stepped: by how much the clock stepped as it has seen; expects: the time that it expects; nil or 0 for none.
local function suspect(server, epoch, stepped, expects)
  if server == '' then return end  -- the asker may not ask which it is, and gets no slot
  local lease, was, known, why, step = P .. 'lease', trust(), number(epoch), nil, 0
  local epoch_was, is_new = tonumber(was.epoch), not was.server
  if is_new and (known > 0 or call('EXISTS', P .. 'run', P .. 'records', P .. 'totals') > 0)
    or not is_new and known > 0 and (known > epoch_was or known < epoch_was and was.doubted == 0) then
    why = 'Redis came back empty, or as it was a while ago: it may have forgotten calls that were made'
  elseif was.server and was.server ~= server and was.parted ~= was.server then
    why = 'another server process of Redis answers (after a crash, a restore or a fail-over), which may have forgotten calls'
    -- Less may be due to the way there, and matters little.
    if (expects or 0) > 0 and math.abs(now - expects) > 2000000 then step = now - expects end
  elseif was.server == server and (stepped or 0) ~= 0 and known == epoch_was then
    step, why = stepped, string.format('the clock of Redis stepped by %.3f s', stepped / 1000000)
  end
  if not why and was.server == server and not was.parted then return end
  trusted = nil
  call('HDEL', lease, 'parted')
  call('HSET', lease, 'server', server)
  -- The first epoch is one that nobody knows of an earlier server.
  if not why then return is_new and call('HSET', lease, 'epoch', us(now)) and nil end
  call('HSET', lease, 'epoch', us(math.max(epoch_was, known) + 1), 'doubted_us', now, 'doubt', why)
  if step == 0 then return why end
  -- Moments that were written by the old clock move with it: what ends in 5 s still does.
  local function move(key, field)
    if call('HEXISTS', key, field) == 1 then redis.pcall('HINCRBY', key, field, step) end
  end
  move(P .. 'run', 'deadline_us')
  move(lease, 'expires_us')
  for _, member in ipairs(call('ZRANGE', P .. 'due', 0, -1)) do call('ZINCRBY', P .. 'due', step, member) end
  for _, field in ipairs(call('HKEYS', P .. 'rules')) do
    local id = string.match(field, '^limit (.*)')
    for _, moment in ipairs(id and {'rest', 'probe', 'pause', 'known'} or {}) do move(P .. 'endpoint:' .. id, moment) end
  end
  reset()
  return why
end
