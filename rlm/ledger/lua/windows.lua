--- take_slots(prefix; windows: json, cost: number, name, server)
-- Takes slots in all of some windows, or in none, for a call that is not RLM's: the storage of `limits`, with which other
-- programs share the windows.
-- windows  {id, longest, keep, charged, rules} of each, as in `endpoints`; there may be rules of the asker's
-- name     of these slots, which no other has
-- Returns  0: they are taken; else microseconds until there are so many slots everywhere; -1: never
-- Atomic because all windows give a slot, or none.
-- include endpoints
local now, latest = now_us(), 0
if trust().server ~= server then return 20000 end  -- nor while none is trusted
for _, window in ipairs(windows) do latest = math.max(latest, (left_at(now, window, cost))) end
if latest == FAR then return -1 end
if latest > now then return math.ceil(latest - now) end
for _, window in ipairs(windows) do  -- `free:` is a lower bound and is not written here
  for slot = 1, cost do call('ZADD', P .. 'window:' .. window.id, now, name .. ' ' .. slot) end
end
return 0

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
