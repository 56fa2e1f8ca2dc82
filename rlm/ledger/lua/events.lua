--- reap(prefix, failed; worker, poison: number, letters: data, dedupe_ms: number)
-- Takes back what the lanes of a dead worker held: it waits again behind the others, for it may have killed the worker.
-- poison   so many deaths make an event one of the dead `letters`; 0: this one is not counted, because RLM caused it
-- Returns  how many events were taken back
-- Atomic because the worker may live after all, and settle at the same moment; only one of the two may succeed.
local taken = 0
for _, value in ipairs(try('HVALS', P .. 'held:' .. worker)) do
  local claims, id = string.match(value, '^%d+ (%d+) %S+ %d+ (.*)$')
  local record = id and claimed(id)
  if record and record.claims == claims and string.match(record.lane, '^%S+') == worker then
    revoke(id, 'nobody knows: its worker died')
    taken = taken + 1
    local is_poison = poison > 0 and call('HINCRBY', event_key(id), 'deaths', 1) >= poison
    if is_poison and letters[id] then retire(id, letters[id]) else make_ready(id, true) end
  end
end
call('DEL', P .. 'held:' .. worker)
if taken > 0 then wake('reaped') end
return taken

--- remove_ready(prefix, failed; token, event_id, dedupe_ms: number, letter)
-- Removes an event that waits: a conductor makes its dead letter of one whose type is no longer configured; or, without one,
-- anybody drops and forgets a leftover.
-- Returns  1 done; 0 the event is no longer ready; -1 a run is open, which owns all leftovers: nothing was changed
-- Atomic because a deposed conductor with an older configuration must not settle an event that its successor can send, and
--        because a run that opens takes all leftovers into its books, and none may vanish after that.
local kind, tally = kind_of(event_id), P .. 'tally'
if fenced(token) then return FENCED end
if letter == '' and call('EXISTS', P .. 'run') == 1 then return -1 end
if not call('ZSCORE', P .. 'ready:' .. kind, event_id) then return 0 end
if letter ~= '' then retire(event_id, letter) else call('DEL', event_key(event_id)) end
call('ZREM', P .. 'ready:' .. kind, event_id)
if letter ~= '' then return 1 end
local retried, left = number(call('HGET', tally, 'taken:' .. kind)), call('ZCARD', P .. 'ready:' .. kind)
if retried > left then call('HSET', tally, 'taken:' .. kind, left)
else count('dropped:' .. kind) end  -- the books miss it until the next run opens
return 1

--- adopt(prefix; cursor)
-- Makes events ready again that are in no set of the ledger, because a key was deleted. Not while a run is open.
-- Returns  the next cursor of SCAN, and the events
-- Atomic because an event must be in exactly one state at any instant, and a run that opens counts what is ready.
local scan = call('SCAN', cursor, 'MATCH', P .. 'event:*', 'COUNT', 200)
local answer = {scan[1]}
for _, key in ipairs(call('EXISTS', P .. 'run') == 0 and scan[2] or {}) do
  local id, has_item = string.sub(key, #event_key('') + 1), redis.pcall('HEXISTS', key, 'item')  -- it is not settled
  if has_item == 1 and not redis.pcall('ZSCORE', P .. 'ready:' .. kind_of(id), id)
    and not call('ZSCORE', P .. 'due', id) and not call('ZSCORE', P .. 'due', 'later ' .. id) then
    make_ready(id)
    answer[#answer + 1] = id
  end
end
return answer
