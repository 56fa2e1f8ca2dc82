--- reap(prefix, failed; worker, death: number, poison: number, letters: json, dedupe_ms: number)
-- Takes back what the lanes of a dead worker held: it waits again behind the others, for it may have killed the worker.
-- failed    the list of dead letters
-- worker
-- death     1: it counts for these events, because RLM did not cause it
-- poison    so many deaths make an event a dead letter
-- letters   EVENT -> that dead letter, JSON
-- dedupe_ms how long a failed event is remembered
-- Returns   how many events were taken back
-- Atomic because the worker may live after all, and settle at the same moment; only one of the two may succeed.
-- include moving
local now, taken, apart = now_us(), 0, 0
local run_id = redis.call('HGET', P .. 'run', 'run_id') or ''
for _, value in ipairs(redis.call('HVALS', P .. 'held:' .. worker)) do
  local claims, endpoint, id = string.match(value, '^%d+ (%d+) (%S+) %d+ (.*)$')
  local record = id and redis.pcall('HMGET', event_key(id), 'owner', 'claims')
  if record and record[1] and string.match(record[1], '^%S+') == worker and record[2] == claims then
    revoke(now, run_id, id, {text = 'nobody knows: its worker died'})
    taken = taken + 1
    local deaths = death == 1 and redis.call('HINCRBY', event_key(id), 'deaths', 1) or 0
    if deaths >= poison and letters[id] then
      bury(failed, id, letters[id], dedupe_ms)
    elseif deaths == poison - 1 then
      -- These come back one after the other, so that only the one that kills its worker dies a last time.
      redis.call('HDEL', event_key(id), 'owner')
      redis.call('ZADD', P .. 'backoff', us(now + apart), id)
      local terms = (rules_of(endpoint) or {types = {}}).types[kind_of(id)]
      apart = apart + 1000000 + 2 * (terms and terms[2] or 0)
    else
      make_ready(id, true)
    end
  end
end
redis.call('DEL', P .. 'held:' .. worker)
if taken > 0 then wake('reaped') end
return taken

--- fail_ready(prefix, lease, failed; token, event_id, dedupe_ms: number, letter)
-- Makes a dead letter of a waiting event whose type is no longer configured.
-- lease      hash with the fencing token
-- failed     the list of dead letters
-- token      the caller's fencing token
-- event_id
-- dedupe_ms  how long the event is remembered, to recognise duplicates
-- letter     the dead letter, JSON
-- Returns  1 settled, 0 the event was no longer ready and nothing was changed
-- Atomic because a deposed conductor with an older configuration must not settle an event that its successor can send.
-- include moving
-- include base
if fenced(lease, token) then return FENCED end
if not redis.call('ZSCORE', P .. 'ready:' .. kind_of(event_id), event_id) then return 0 end
redis.call('LLEN', failed)  -- fails, if it must, before anything is changed
redis.call('ZREM', P .. 'ready:' .. kind_of(event_id), event_id)
bury(failed, event_id, letter, dedupe_ms)
return 1

--- drop_ready(prefix; event_id)
-- Removes a leftover event and forgets it.
-- event_id
-- Returns  1 dropped; 0 it is no longer a leftover; -1 a run is open: nothing was changed
-- Atomic because a run that opens takes all leftovers into its books, and none may vanish after that.
-- include moving
if redis.call('EXISTS', P .. 'run') == 1 then return -1 end
if redis.call('ZREM', P .. 'ready:' .. kind_of(event_id), event_id) == 0 then return 0 end
redis.call('DEL', event_key(event_id))
local retried = P .. 'tally'
local taken = tonumber(redis.call('HGET', retried, 'taken:' .. kind_of(event_id)) or nil) or 0
local left = redis.call('ZCARD', P .. 'ready:' .. kind_of(event_id))
if taken > left then redis.call('HSET', retried, 'taken:' .. kind_of(event_id), left)
else count('dropped:' .. kind_of(event_id)) end  -- the books miss it until the next run opens
return 1

--- item_of(event)
-- Reads the item of an event.
-- event    its hash; a key that holds something else has no item
-- Returns  the item, or an empty text
-- A script because, among others in one round trip, a plain command would fail all of them for one key.
local item = redis.pcall('HGET', event, 'item')
return type(item) == 'string' and item or ''
