--- take_slots(prefix; windows: data, cost: number, name, server)
-- Takes slots in all of some windows, or in none, for a call that is not RLM's: the storage of `limits`, with which other
-- programs share the windows.
-- windows  {id, longest, keep, charged, rules} of each, as in `endpoints`; there may be rules of the asker's
-- Returns  0: they are taken; else microseconds until there are so many slots everywhere; -1: never
-- Atomic because all windows give a slot, or none.
local latest = 0
if trust().server ~= server then return 20000 end  -- nor while none is trusted
for _, window in ipairs(windows) do latest = math.max(latest, (left_at(window, cost))) end
if latest == FAR then return -1 end
if latest > now then return math.ceil(latest - now) end
for _, window in ipairs(windows) do  -- `free:` is a lower bound and is not written here
  for slot = 1, cost do call('ZADD', P .. 'window:' .. window.id, now, name .. ' ' .. slot) end
end
return 0

--- write_rules(prefix; token, rules: data, types: data, sharing: data, gone: data, limits: data)
-- Publishes a part of what lanes must know of endpoints and types, and of the limits in force.
-- token    empty: a change by hand, which is everybody's
-- rules    ENDPOINT -> its entry, see `endpoints`
-- types    TYPE -> itself behind its rank; its list of endpoints is made anew from `rules`
-- sharing  WINDOW -> the names of the endpoints of a budget; each brings its earlier calls into the budget's window
-- gone     fields of `rules` that nothing is known of any more
-- limits   {window, limit, in_file, record} of each; one set by hand holds until the file has another for its window
-- Atomic because a lane must not find the new limit of one endpoint beside the old window of another's budget.
if fenced(token) then return FENCED end
local joins, changed = {}, {}
for _, each in ipairs(limits) do
  local filed, before = unpack(call('HMGET', P .. 'rules', 'filed ' .. each.window, 'limit ' .. each.window))
  before = before or token == '' and each.in_file or nil
  call('HSET', P .. 'endpoint:' .. each.window, 'named', each.record.name)
  -- Also by hand, for otherwise the first publication would take the file for changed.
  if token ~= '' or not filed then call('HSET', P .. 'rules', 'filed ' .. each.window, each.in_file) end
  if token == '' or filed ~= each.in_file then
    call('HSET', P .. 'rules', 'limit ' .. each.window, each.limit)
    if before ~= each.limit then record_change(before, each.record) end
  end
end
local function write(field, value)
  call('HSET', P .. 'rules', field, cmsgpack.pack(value))
  published[field] = value
end
local function forget(kind)  -- under the rank that it had
  local member = rule('type ' .. kind)
  if member then call('ZREM', P .. 'open', member) end
  call('DEL', P .. 'free:' .. kind)
end
for kind, member in pairs(types) do
  forget(kind)
  write('type ' .. kind, member)
end
for _, field in ipairs(gone) do
  local kind = string.match(field, '^type (.*)')
  if kind then forget(kind) end
  call('HDEL', P .. 'rules', field)
  published[field] = false
end
for window, names in pairs(sharing) do write('sharing ' .. window, names) end
for endpoint, entry in pairs(rules) do
  local before, own, shared = windows_of(endpoint), unpack(entry.windows)
  for place, window in ipairs(entry.windows) do  -- rules that were read before a limit was set do not undo it
    local limit, was = call('HGET', P .. 'rules', 'limit ' .. window.id), before[place]
    if limit and limit ~= window.limit and was and was.id == window.id then entry.windows[place] = was end
  end
  write(endpoint, entry)
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
for endpoint in pairs(changed) do refresh(endpoint) end
if call('HGET', P .. 'run', 'state') == 'running' then wake('rules') end  -- between runs nobody waits for them

--- set_pause(prefix; name, window, pause_us: number, by, record: data)
-- Pauses an endpoint or a budget; or resumes it if `pause_us` is 0, which also ends a rest because of its answers. A resume of what
-- is neither paused nor rests is not recorded.
-- Atomic because a crash must not leave a pause without its record, which must say what was replaced or ended.
local place = P .. 'endpoint:' .. window
local state, before = call('HMGET', place, 'pause', 'rest'), {}
if number(state[1]) > now then before[1] = 'paused' end
if pause_us == 0 then
  if number(state[2]) > now then before[#before + 1] = 'open' end
  call('HDEL', place, 'pause', 'paused_by', 'paused_at', 'rest')
else
  call('HSET', place, 'pause', us(now + pause_us), 'paused_by', by, 'paused_at', now / 1000000)
end
if before[1] or pause_us ~= 0 then record_change(before[1] and table.concat(before, ', '), record) end
for _, endpoint in ipairs(rule('sharing ' .. window) or {name}) do refresh(endpoint) end
call('PUBLISH', P .. 'wake:workers', pause_us == 0 and 'resumed' or 'paused')
