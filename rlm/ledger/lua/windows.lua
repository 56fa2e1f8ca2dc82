--- look_windows(prefix; windows: json)
-- Looks at the windows of endpoints and budgets without taking slots.
-- windows  {id, longest, keep, rules} of each, as in `endpoints`
-- Returns  {now_us, windows}: for each of them {free, wait_us, rest_us, suspect, held_us, paused_us}: free slots; the time to
--          the next one; what is left of a rest of any kind; whether it rested because of its answers and none was good
--          since; what is left of a rest because its window cannot be trusted; and of a pause
-- One script because the answer must be of one instant, by the clock of the stamps.
-- include endpoints
local now, looks = now_us(), {}
for place, window in ipairs(windows) do
  local at, _, state = left_at(now, window, 1, true)
  local function left(until_us) return math.max(0, (tonumber(until_us or nil) or 0) - now) end
  local held, paused = math.max(left(trust().doubted + window.longest), left(state[4])), left(state[3])
  local free = at > now and 0 or state[5] and 1 or math.huge
  for _, rule in ipairs(free > 0 and window.rules or {}) do
    free = math.min(free, rule[1] - call('ZCOUNT', P .. 'window:' .. window.id, '(' .. us(now - rule[2]), '+inf'))
  end
  looks[place] = named{free = math.max(0, free), wait_us = left(at), rest_us = math.max(held, paused, left(state[1]), left(state[2])),
    suspect = state[5] and 1 or 0, held_us = held, paused_us = paused}
end
return named{now_us = now, windows = looks}

--- take_slots(prefix; windows: json, cost: number, name, server)
-- Takes slots for a call that is not RLM's: the storage of `limits`, with which other programs share the windows.
-- windows  {id, longest, keep, charged, rules} of an endpoint and its budget, as in `endpoints`; there may be rules of the
--          asker's
-- cost     how many slots
-- name     of these slots, which no other has
-- server   run id of the server of this connection
-- Returns  {wait_us}: 0: they are taken; microseconds until there are so many; -1 for never
-- Atomic because all windows give a slot, or none. `free:` is a lower bound and is not written here.
-- include endpoints
local now, at = now_us(), 0
if trust().server ~= server then return named{wait_us = 20000} end  -- nor while none is trusted
for _, window in ipairs(windows) do
  for _, rule in ipairs(window.rules) do
    if cost > rule[1] then return named{wait_us = -1} end
  end
  at = math.max(at, (left_at(now, window, cost)))
end
if at > now then return named{wait_us = math.ceil(at - now)} end
for _, window in ipairs(windows) do
  for number = 1, cost do call('ZADD', P .. 'window:' .. window.id, now, name .. ' ' .. number) end
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
if token ~= '' and fenced(lease, token) then return FENCED end
local now = now_us()
local function forget(kind)  -- under the rank that it had
  if ranked(kind) then call('ZREM', P .. 'open', ranked(kind)) end
  call('DEL', P .. 'free:' .. kind)
  ranks[kind] = nil
end
for kind, entry in pairs(types) do
  forget(kind)
  call('HSET', P .. 'rules', 'type ' .. kind, entry)
end
for _, field in ipairs(gone) do
  local kind = string.match(field, '^type (.*)')
  if kind then forget(kind) end
  call('HDEL', P .. 'rules', field)
end
local joins, changed = {}, {}
for endpoint, entry in pairs(rules) do
  local before, windows = rules_of(endpoint), cjson.decode(entry).windows
  call('HSET', P .. 'rules', endpoint, entry)
  texts[endpoint], decoded[endpoint] = nil, nil
  local shared = (windows[2] or {}).id
  if shared and not (before and before.window == windows[1].id and (before.windows[2] or {}).id == shared) then
    joins[shared] = joins[shared] or {P .. 'window:' .. shared}
    table.insert(joins[shared], P .. 'window:' .. windows[1].id)
  end
end
for shared, keys in pairs(joins) do  -- earlier calls count in a new budget, each once, whichever budget they had before
  local number = #keys
  keys[number + 1], keys[number + 2] = 'AGGREGATE', 'MAX'
  call('ZUNIONSTORE', P .. 'window:' .. shared, number, unpack(keys))
end
for window, names in pairs(sharing) do call('HSET', P .. 'rules', 'sharing ' .. window, cjson.encode(names)) end
for endpoint in pairs(rules) do
  for _, other in ipairs(sharers(endpoint)) do changed[other] = true end
end
for endpoint in pairs(changed) do refresh(now, endpoint) end
call('PUBLISH', P .. 'wake:workers', 'rules')
return 1
