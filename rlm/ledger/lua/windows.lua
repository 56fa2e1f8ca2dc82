--- look_windows(prefix; windows: json)
-- Looks at the windows of endpoints and budgets without taking slots.
-- windows  {id, longest, rules: {{amount, span}...}} of each, microseconds, as in `endpoints`
-- Returns  {now_us, windows}: for each of them {free, wait_us, rest_us, suspect, held_us, paused_us}: free slots; the time to
--          the next one; what is left of a rest of any kind; whether it rested because of its answers and none was good
--          since; what is left of a rest because its window cannot be trusted; and of a pause
-- One script because the answer must be of one instant, by the clock of the stamps.
-- include endpoints
-- include replies
local now, looks = now_us(), {}
for place, window in ipairs(windows) do
  local state = try('HMGET', P .. 'endpoint:' .. window.id, 'rest', 'asked', 'pause', 'hold', 'since')
  local function left(until_us) return math.max(0, (tonumber(until_us or nil) or 0) - now) end
  local free, wait = math.huge, 0
  for _, rule in ipairs(window.rules) do
    local key = P .. 'window:' .. window.id
    local taken = try('ZCOUNT', key, '(' .. us(now - rule[2]), '+inf')
    if state.err or type(taken) ~= 'number' then  -- it takes no call: a key holds what RLM does not write
      free, wait = 0, window.longest
    elseif taken < rule[1] then
      free = math.min(free, rule[1] - taken)
    else
      free = 0
      wait = math.max(wait, redis.call('ZREVRANGE', key, rule[1] - 1, rule[1] - 1, 'WITHSCORES')[2] + rule[2] - now)
    end
  end
  local held = math.max(left(trust().doubted + window.longest), left(state[4]))
  local paused = left(state[3])
  local rest = math.max(held, paused, left(state[1]), left(state[2]))
  wait = math.max(wait, rest)
  if state[5] then free = math.min(free, 1) end
  if wait > 0 then free = 0 end
  looks[place] = named{free = math.max(0, free), wait_us = us(wait), rest_us = us(rest), suspect = state[5] and 1 or 0,
    held_us = us(held), paused_us = us(paused)}
end
return named{now_us = us(now), windows = looks}

--- take_slots(prefix; windows: json, cost: number, name, server)
-- Takes slots for a call that is not RLM's: the storage of `limits`, with which other programs share the windows.
-- windows  {id, longest, keep, rules} of an endpoint and its budget, as in `endpoints`; there may be rules of the asker's
-- cost     how many slots
-- name     of these slots, which no other has
-- server   run id of the server of this connection
-- Returns  {wait_us}: 0: they are taken; microseconds until there are so many; -1 for never
-- Atomic because all windows give a slot, or none. `free:` is a lower bound and is not written here.
-- include endpoints
-- include replies
local now, wait = now_us(), 0
if trust().server and trust().server ~= server then return named{wait_us = 20000} end
for _, window in ipairs(windows) do
  local place, key = P .. 'endpoint:' .. window.id, P .. 'window:' .. window.id
  local longest = tonumber(redis.call('HGET', place, 'longest') or nil) or 0
  if window.keep > longest then lengthen(now, window, longest) end
  local state = redis.call('HMGET', place, 'rest', 'asked', 'pause', 'hold', 'epoch')
  if (state[5] or '1') ~= trust().epoch then catch_up(now, window) end
  for each = 1, 4 do wait = math.max(wait, (tonumber(state[each] or nil) or 0) - now) end
  wait = math.max(wait, trust().doubted + window.longest - now)
  for _, rule in ipairs(window.rules) do
    if cost > rule[1] then return named{wait_us = -1} end
    local nth = redis.call('ZREVRANGE', key, rule[1] - cost, rule[1] - cost, 'WITHSCORES')[2]
    if nth then
      wait = math.max(wait, nth + rule[2] - now)
      if nth + rule[2] < now then trim(key, now - math.max(window.keep, longest)) end
    end
  end
end
if wait > 0 then return named{wait_us = us(math.ceil(wait))} end
for _, window in ipairs(windows) do
  for number = 1, cost do redis.call('ZADD', P .. 'window:' .. window.id, us(now), name .. ' ' .. number) end
end
return named{wait_us = 0}

--- write_rules(prefix, lease; token, rules: json, types: json, sharing: json, gone: json)
-- Publishes a part of what lanes must know of endpoints and types.
-- lease    hash with the fencing token
-- token    the caller's fencing token; empty: a change by hand, which is everybody's
-- rules    ENDPOINT -> its entry, see `endpoints`, in text
-- types    TYPE -> its rank and share; its list of endpoints is made anew from `rules`
-- sharing  WINDOW -> the names of the endpoints of a budget; each brings its earlier calls into the budget's window
-- gone     fields of `rules` that nothing is known of any more
-- Returns  1
-- Atomic because a lane must not find the new limit of one endpoint beside the old window of another's budget.
-- include endpoints
-- include fencing
if token ~= '' and fenced(lease, token) then return FENCED end
local now = now_us()
local function forget(kind)  -- under the rank that it had
  if rank_of(kind) then redis.call('ZREM', P .. 'open', rank_of(kind) .. ' ' .. kind) end
  redis.call('DEL', P .. 'free:' .. kind)
  ranks[kind] = nil
end
for kind, entry in pairs(types) do
  forget(kind)
  redis.call('HSET', P .. 'rules', 'type ' .. kind, entry)
end
for _, field in ipairs(gone) do
  local kind = string.match(field, '^type (.*)')
  if kind then forget(kind) end
  redis.call('HDEL', P .. 'rules', field)
end
local joins = {}
for endpoint, entry in pairs(rules) do
  local before = rules_of(endpoint)
  redis.call('HSET', P .. 'rules', endpoint, entry)
  known[endpoint] = nil
  local windows = rules_of(endpoint).windows
  for _, window in ipairs(windows) do
    local longest = tonumber(redis.call('HGET', P .. 'endpoint:' .. window.id, 'longest') or nil) or 0
    if window.keep > longest then lengthen(now, window, longest) end
  end
  local shared = (windows[2] or {}).id
  if shared and not (before and before.window == windows[1].id and (before.windows[2] or {}).id == shared) then
    joins[shared] = joins[shared] or {P .. 'window:' .. shared}
    table.insert(joins[shared], P .. 'window:' .. windows[1].id)
  end
end
for shared, keys in pairs(joins) do  -- earlier calls count in a new budget, each once, whichever budget they had before
  local number = #keys
  keys[number + 1], keys[number + 2] = 'AGGREGATE', 'MAX'
  redis.call('ZUNIONSTORE', P .. 'window:' .. shared, number, unpack(keys))
end
for window, names in pairs(sharing) do redis.call('HSET', P .. 'rules', 'sharing ' .. window, cjson.encode(names)) end
local changed = {}
for endpoint in pairs(rules) do
  for _, other in ipairs(sharers(endpoint)) do changed[other] = true end
end
for endpoint in pairs(changed) do refresh(now, endpoint) end
redis.call('PUBLISH', P .. 'wake:workers', 'rules')
return 1
