-- An event waits in `ready:TYPE` from here on: scores and events; what else stood there was not RLM's.
local function line_up(kind, ...)
  local ready = P .. 'ready:' .. kind
  if type(try('ZADD', ready, ...)) == 'table' then
    call('DEL', ready)
    call('ZADD', ready, ...)
  end
end
-- Makes events ready that are neither unsettled nor remembered, the first of equal ones; returns how many. events: {id, wallet,
-- offset} of each; item_of(event): its item.
local function enter(events, item_of)
  local scored, new, arrivals = {}, 0, call('HINCRBY', P .. 'lease', 'sequence', 0)
  local taken_at = string.format('%.6f', now / 1000000)
  for _, event in ipairs(events) do
    local id, key = event[1], event_key(event[1])
    local fields = redis.pcall('HLEN', key)
    if type(fields) == 'table' then fields = call('DEL', key) - 1 end  -- no event, so this is no duplicate
    if fields == 0 then
      new = new + 1
      local kind, score = kind_of(id), event[3] + arrivals + new
      call('HSET', key, 'wallet', event[2], 'item', item_of(event), 'score', score, 'taken_at', taken_at)
      local scores = scored[kind] or {}
      scores[#scores + 1], scores[#scores + 2], scored[kind] = score, id, scores
    end
  end
  for kind, scores in pairs(scored) do
    local was_empty = call('EXISTS', P .. 'ready:' .. kind) == 0
    line_up(kind, unpack(scores))
    count('taken:' .. kind, #scores / 2)
    index(kind)
    if was_empty and running then wake('ready') end
  end
  call('HINCRBY', P .. 'lease', 'sequence', new)
  return new
end

--- stage_list(prefix, staging, events; token, run_id)
-- Stages all that is on the audit list, once a run, unless something is staged.
-- Atomic because items that are pushed meanwhile must be on one list or the other, and a late second conductor must not stage.
if fenced(token) or call('HGET', P .. 'run', 'run_id') ~= run_id then return FENCED end
if call('EXISTS', staging) == 0 and call('HSETNX', P .. 'run', 'staged', '1') == 1
  and call('EXISTS', events) == 1 then call('RENAME', events, staging) end

--- take_chunk(prefix, staging, failed; token, run_id, read, chunk: data)
-- Takes the oldest staged items into the ledger: writes their events, dead letters and counts, and trims just them.
-- read     the items as they were read, the newest first, with a line break between two
-- chunk    `Chunk` of rlm/ledger/intake.py; of each event {id, wallet, offset, index of its item from 0}
-- Returns  how many events were taken; -1 if staging is no longer as it was read: nothing was written
-- Atomic because a crash, a lost reply or a late second conductor must neither lose nor double an item.
if fenced(token) or call('HGET', P .. 'run', 'run_id') ~= run_id then return FENCED end
local items, giant = chunk.items, chunk.giant
local raw = giant == 0 and call('LRANGE', staging, -items, -1) or {}
if giant > 0 and #(call('LINDEX', staging, -1) or '') ~= giant then return -1 end
if #raw < items or table.concat(raw, '\n') ~= read then return -1 end
local new = enter(chunk.events, function(event) return raw[items - event[4]] end)
if #chunk.letters > 0 then call('LPUSH', failed, unpack(chunk.letters)) end
count('duplicates', #chunk.events - new)
count('invalid', #chunk.letters)
if giant > 0 then call('LMOVE', staging, P .. 'aside', 'RIGHT', 'LEFT') else call('LTRIM', staging, 0, -(items + 1)) end
return new
