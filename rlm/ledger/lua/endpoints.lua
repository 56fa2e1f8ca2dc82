--- endpoints
-- When endpoints take their next call. `rules` has what the leader publishes of them, packed: ENDPOINT -> its `EndpointRules`
-- of rlm/ledger/rules.py; `type TYPE` -> itself behind its rank; `sharing WINDOW` -> the endpoints of a budget. All spans are
-- in microseconds; those of rules have the guard in. A key that holds what RLM does not write closes its type or its
-- endpoint, and stops nothing else.
-- include base
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
-- Like `call`, but for a key of another type the reply has `err`; without memory, say, the whole script fails.
local function try(...)
  local reply = redis.pcall(...)
  if type(reply) ~= 'table' or not reply.err or string.find(reply.err, 'WRONGTYPE', 1, true) then return reply end
  return call(...)
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
  local state = try('HMGET', place, 'rest', 'pause', 'hold', 'since', 'epoch', 'longest')
  if state.err then return FAR, FAR end
  local longest = number(state[6])
  if (state[5] or '1') ~= trust().epoch then catch_up(window, key, place, state[4]) end
  if window.keep > longest then  -- calls were not kept for so long: until enough are, none is made
    call('HSET', place, 'longest', window.keep)
    if longest > 0 and call('EXISTS', key) == 1 then
      state[3] = math.max(number(state[3]), now + window.keep - longest)
      call('HSET', place, 'hold', state[3])
    end
    longest = window.keep
  end
  local at = math.max(now, trust().doubted + window.longest)
  for each = 1, 3 do at = math.max(at, number(state[each])) end
  local after = at
  for _, limit in ipairs(window.rules) do
    local nth, span = limit[1] - cost, limit[2]
    if nth < 0 then return FAR, FAR end
    local calls = try('ZREVRANGE', key, nth > 0 and nth - 1 or 0, nth, 'WITHSCORES')
    if calls.err then return FAR, FAR end
    local oldest = calls[nth > 0 and 4 or 2]
    if oldest then
      at = math.max(at, oldest + span)
      if oldest + span < now then  -- a thousand calls at a time, for a million take half a second
        local gone = call('ZCOUNT', key, '-inf', now - math.max(window.keep, longest))
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
-- The place of a type in `open`, while a run is open.
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
