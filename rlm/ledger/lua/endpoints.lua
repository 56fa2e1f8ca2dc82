--- endpoints
-- When endpoints take their next call. `rules` has what the leader publishes of them: ENDPOINT -> JSON {window: its own
-- window id, longest: microseconds that it is held after a doubt, timeout, probe, rest: the longest rest, windows: {id, keep,
-- shared, rules: {{amount, span}...}}: its own, then its budget's, types: {TYPE: {rank, call, need}}}; `type TYPE` -> rank
-- and share; `sharing WINDOW` -> the endpoints of a budget. All spans are in microseconds; those of rules have the guard in.
-- A key that holds what RLM does not write closes its type or its endpoint, and stops nothing else.
-- Gives  FAR                       later than any moment
--        try(command, ...)         like `redis.call`, but for a key that holds what RLM does not write the reply has `err`
--        rules_of(endpoint)        its entry of `rules`, nil if there is none
--        catch_up(now, window)     what a doubt means for a window
--        lengthen(now, window, longest)  a rule is longer than calls were kept, `longest`: until enough are, none is made
--        trim(key, before)         removes calls of a window that no rule counts any more
--        opens(now, endpoint)      when it takes its next call, and since when it fails, if it does
--        has_ready(kind)           whether events of the type are ready
--        index(kind)               writes the type's place in `open`, while a run is open
--        refresh(now, endpoint, at)  writes `free:` of an endpoint and `open` of its types; at: when it opens, if known
--        sharers(endpoint)         it, and the others that share a budget with it
--        freed(now, endpoint)      like `refresh` for all of these, because they may be free earlier
--        stamp_call(endpoint, name, at)  the call counts from `at`, if that is later; it is inserted if it is missing
--        unstamp_call(endpoint, name)    its slot is given back
-- include doubt
local FAR = 8000000000000000
local function try(...)  -- only a key of another type is no error: without memory, say, the whole script fails
  local reply = redis.pcall(...)
  if type(reply) ~= 'table' or not reply.err or string.find(reply.err, 'WRONGTYPE', 1, true) then return reply end
  return redis.call(...)
end
local known, ranks = {}, {}
local function rules_of(endpoint)
  if known[endpoint] == nil then
    local text = redis.call('HGET', P .. 'rules', endpoint)
    known[endpoint] = text and cjson.decode(text) or false
  end
  return known[endpoint] or nil
end
-- After a doubt, once for each window. Calls ahead of a clock that was set back count as taken now. A rule longer than an
-- hour is not held; instead, as many calls are charged as the endpoint made in a minute.
local function catch_up(now, window)
  local key = P .. 'window:' .. window.id
  for _, call in ipairs(redis.call('ZRANGEBYSCORE', key, '(' .. us(now), '+inf')) do redis.call('ZADD', key, us(now), call) end
  local newest = redis.call('ZRANGE', key, -1, -1, 'WITHSCORES')[2]
  if newest and window.charged then
    for number = 1, redis.call('ZCOUNT', key, us(newest - 60000000), '+inf') do
      redis.call('ZADD', key, us(now), 'doubt ' .. trust().epoch .. ' ' .. number)
    end
  end
  local place = P .. 'endpoint:' .. window.id
  if (tonumber(redis.call('HGET', place, 'since') or nil) or 0) > now then redis.call('HSET', place, 'since', us(now)) end
  redis.call('HDEL', place, 'well')
  redis.call('HSET', place, 'epoch', trust().epoch)
end
local function lengthen(now, window, longest)
  local key = P .. 'endpoint:' .. window.id
  redis.call('HSET', key, 'longest', us(window.keep))
  if longest > 0 and redis.call('EXISTS', P .. 'window:' .. window.id) == 1 then
    local hold = tonumber(redis.call('HGET', key, 'hold') or nil) or 0
    redis.call('HSET', key, 'hold', us(math.max(hold, now + window.keep - longest)))
  end
end
local function trim(key, before)  -- a thousand calls at a time, for a million take half a second
  local last = tonumber(redis.call('ZRANGE', key, 999, 999, 'WITHSCORES')[2] or nil)
  if last and last <= before then redis.call('ZREMRANGEBYRANK', key, 0, 999)
  else redis.call('ZREMRANGEBYSCORE', key, '-inf', us(before)) end
end
local function opens(now, endpoint)
  local of = rules_of(endpoint)
  if not of then return FAR end
  local at, failing = math.max(now, trust().doubted + of.longest), nil
  for _, window in ipairs(of.windows) do
    local state = try('HMGET', P .. 'endpoint:' .. window.id, 'rest', 'asked', 'pause', 'hold', 'since', 'epoch',
      'longest')
    if state.err then return FAR end
    if (state[6] or '1') ~= trust().epoch then catch_up(now, window) end
    for place = 1, 4 do
      if state[place] then at = math.max(at, tonumber(state[place]) or 0) end
    end
    failing = failing or state[5]
    local key = P .. 'window:' .. window.id
    for _, rule in ipairs(window.rules) do
      local nth = try('ZREVRANGE', key, rule[1] - 1, rule[1] - 1, 'WITHSCORES')
      if nth.err then return FAR end
      nth = nth[2]
      if nth then
        at = math.max(at, nth + rule[2])
        if nth + rule[2] < now then  -- windows are trimmed only when an old entry stands in the way
          trim(key, now - math.max(window.keep, tonumber(state[7] or 0)))
        end
      end
    end
  end
  return at, failing
end
local function rank_of(kind)
  if ranks[kind] == nil then
    local entry = redis.call('HGET', P .. 'rules', 'type ' .. kind)
    ranks[kind] = entry and string.match(entry, '^%d+') or false
  end
  return ranks[kind]
end
local function has_ready(kind)
  local ready = try('ZCARD', P .. 'ready:' .. kind)
  return type(ready) == 'number' and ready > 0
end
local running
local function index(kind)
  if running == nil then running = redis.call('HGET', P .. 'run', 'state') == 'running' end
  local rank = running and rank_of(kind)
  if not rank then return end
  local free = try('ZRANGE', P .. 'free:' .. kind, 0, 0, 'WITHSCORES')[2]
  if free and has_ready(kind) then
    redis.call('ZADD', P .. 'open', free, rank .. ' ' .. kind)
  else
    redis.call('ZREM', P .. 'open', rank .. ' ' .. kind)
  end
end
-- The only writer of `free:`, so that windows, rest, pause and hold cannot undo one another.
local function refresh(now, endpoint, at)
  local of = rules_of(endpoint)
  if not of then return end
  at = at or opens(now, endpoint)
  for kind, terms in pairs(of.types) do
    try('ZADD', P .. 'free:' .. kind, at > now and us(at) or 0, terms[1] .. ' ' .. endpoint)
    index(kind)
  end
end
local function sharers(endpoint)
  local names = {endpoint}
  for _, window in ipairs((rules_of(endpoint) or {windows = {}}).windows) do
    local sharing = window.shared and redis.call('HGET', P .. 'rules', 'sharing ' .. window.id)
    for _, other in ipairs(sharing and cjson.decode(sharing) or {}) do
      if other ~= endpoint then names[#names + 1] = other end
    end
  end
  return names
end
local function freed(now, endpoint)
  for _, name in ipairs(sharers(endpoint)) do refresh(now, name) end
end
-- Needs no ownership: a call that may have been sent must count, whoever has its event by now.
local function stamp_call(endpoint, name, at)
  for _, window in ipairs((rules_of(endpoint) or {windows = {}}).windows) do
    try('ZADD', P .. 'window:' .. window.id, 'GT', us(at), name)
  end
end
local function unstamp_call(endpoint, name)
  for _, window in ipairs((rules_of(endpoint) or {windows = {}}).windows) do
    try('ZREM', P .. 'window:' .. window.id, name)
  end
end
