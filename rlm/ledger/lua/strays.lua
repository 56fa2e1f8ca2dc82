--- adopt_events(prefix; events: json)
-- Makes events ready again that are in no set of the ledger, because a key was deleted, or a fail-over lost writes.
-- events  their ids
-- Returns  the ids of those that were in none; nothing while a run is open
-- Atomic because an event must be in exactly one state at any instant, and a run that opens counts what is ready.
-- include moving
local adopted = {}
if redis.call('EXISTS', P .. 'run') == 1 then return adopted end
for _, id in ipairs(events) do
  local ready = redis.call('ZSCORE', P .. 'ready:' .. kind_of(id), id)
  local fields = ready and {} or redis.pcall('HMGET', event_key(id), 'item', 'state')
  if not fields.err and fields[1] and not fields[2]
    and not redis.call('ZSCORE', P .. 'inflight', id) and not redis.call('ZSCORE', P .. 'backoff', id) then
    make_ready(id)
    redis.call('SADD', P .. 'types', kind_of(id))
    adopted[#adopted + 1] = id
  end
end
return adopted
