--- use_windows(prefix; windows: json, cost: number, name, server)
-- Looks at the windows of endpoints and budgets; or takes slots in all of them, or in none, for a call that is not RLM's: the
-- storage of `limits`, with which other programs share the windows.
-- windows  {id, longest, keep, charged, rules} of each, as in `endpoints`; there may be rules of the asker's
-- cost     how many slots; 0: it only looks
-- name     of these slots, which no other has
-- Returns  {now_us, wait_us, windows}: microseconds until there are so many slots everywhere, 0: they are taken, -1: never; and
--          after a look for each window {free, wait_us, rest_us, suspect, held_us, paused_us}: free slots; the time to the
--          next one; what is left of a rest of any kind; whether it rested because of its answers and none was good since;
--          what is left of a rest because its window cannot be trusted; and of a pause
-- Atomic because all windows give a slot, or none, and a look must be of one instant, by the clock of the stamps.
-- include endpoints
local now, latest, looks = now_us(), 0, {}
if cost > 0 and trust().server ~= server then  -- nor while none is trusted
  return cmsgpack.pack{now_us = now, wait_us = 20000, windows = looks}
end
for place, window in ipairs(windows) do
  local at, _, state = left_at(now, window, math.max(cost, 1), cost == 0)
  local function left(until_us) return math.max(0, number(until_us) - now) end
  latest = math.max(latest, at)
  if cost == 0 then
    local held, paused = math.max(left(trust().doubted + window.longest), left(state[4])), left(state[3])
    local free = at > now and 0 or state[5] and 1 or math.huge
    for _, rule in ipairs(free > 0 and window.rules or {}) do
      free = math.min(free, rule[1] - call('ZCOUNT', P .. 'window:' .. window.id, '(' .. us(now - rule[2]), '+inf'))
    end
    looks[place] = {free = math.max(0, free), wait_us = left(at), suspect = state[5] and 1 or 0, held_us = held,
      rest_us = math.max(held, paused, left(state[1]), left(state[2])), paused_us = paused}
  end
end
local wait_us = latest == FAR and -1 or math.ceil(math.max(0, latest - now))
for _, window in ipairs(wait_us == 0 and windows or {}) do  -- `free:` is a lower bound and is not written here
  for slot = 1, cost do call('ZADD', P .. 'window:' .. window.id, now, name .. ' ' .. slot) end
end
return cmsgpack.pack{now_us = now, wait_us = wait_us, windows = looks}

--- write_rules(prefix; token, rules: json, types: json, sharing: json, gone: json)
-- Publishes a part of what lanes must know of endpoints and types.
-- token    empty: a change by hand, which is everybody's
-- rules    ENDPOINT -> its entry, see `endpoints`, in text
-- types    TYPE -> its rank and share; its list of endpoints is made anew from `rules`
-- sharing  WINDOW -> the names of the endpoints of a budget; each brings its earlier calls into the budget's window
-- gone     fields of `rules` that nothing is known of any more
-- Returns  1
-- Atomic because a lane must not find the new limit of one endpoint beside the old window of another's budget.
-- include endpoints
if token ~= '' and fenced(token) then return FENCED end
local now, joins, changed = now_us(), {}, {}
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
for window, names in pairs(sharing) do call('HSET', P .. 'rules', 'sharing ' .. window, cjson.encode(names)) end
for endpoint, entry in pairs(rules) do
  local before, own, shared = windows_of(endpoint), unpack(cjson.decode(entry).windows)
  call('HSET', P .. 'rules', endpoint, entry)
  texts[endpoint], decoded[endpoint] = nil, nil
  if shared and not (before[2] and before[1].id == own.id and before[2].id == shared.id) then
    joins[shared.id] = joins[shared.id] or {P .. 'window:' .. shared.id}
    table.insert(joins[shared.id], P .. 'window:' .. own.id)
  end
end
for shared, keys in pairs(joins) do  -- earlier calls count in a new budget, each once, whichever budget they had before
  local windows = #keys
  keys[windows + 1], keys[windows + 2] = 'AGGREGATE', 'MAX'
  call('ZUNIONSTORE', P .. 'window:' .. shared, windows, unpack(keys))
end
for endpoint in pairs(rules) do
  for _, other in ipairs(sharers(endpoint)) do changed[other] = true end
end
for endpoint in pairs(changed) do refresh(now, endpoint) end
call('PUBLISH', P .. 'wake:workers', 'rules')
return 1
