-- Gives an unused slot back, or blocks a used one for a period from now or from a while ago, in all its windows.
-- KEYS[1]  window    of its endpoint, list of slots: stamps in microseconds of Redis time, newest first
-- KEYS[2]  calls     hash of the worker: event id -> its call; unused without an event id
-- KEYS[3]  inflight  zset of the event's type, by the end of the lease, negative without a slot; likewise
-- KEYS[4]  budget    the window of the endpoint's budget, as `window`; missing if it has none
-- ARGV[1]  stamp     of the slot
-- ARGV[2]  event id  it was taken for, or empty
-- ARGV[3]  call      what is noted of the call from now on, %s being the new stamp; empty: the slot is given back
-- ARGV[4]  ago_us    since when it is blocked, microseconds before now; never earlier than it was taken
-- Returns  the slot's stamp from now on, '0' when it is given back or was no longer there
-- Atomic because the slot must not be missing for an instant while it is moved.
local window, calls, inflight, budget = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local stamp, event_id, call, ago_us = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
if redis.call('LREM', window, 1, stamp) == 0 then return '0' end
if budget then redis.call('LREM', budget, 1, stamp) end
if call == '' then
  if event_id ~= '' and redis.call('HEXISTS', calls, event_id) == 1 then
    redis.call('HSET', calls, event_id, '')
    local lease = tonumber(redis.call('ZSCORE', inflight, event_id) or 0)
    if lease > 0 then redis.call('ZADD', inflight, string.format('%.0f', -lease), event_id) end
  end
  return '0'
end
-- include now
local from = math.max(now - ago_us, tonumber(stamp))
if ago_us == 0 then  -- from now is from the newest slot on, whatever the clock does
  for _, list in ipairs({window, budget}) do from = math.max(from, tonumber(redis.call('LINDEX', list, 0) or 0)) end
end
local moved = string.format('%.0f', from)
for _, list in ipairs({window, budget}) do  -- each list stays in order
  local place = 0
  while tonumber(redis.call('LINDEX', list, place) or 0) > from do place = place + 1 end
  local older = redis.call('LINDEX', list, place)
  if older then redis.call('LINSERT', list, 'BEFORE', older, moved) else redis.call('RPUSH', list, moved) end
end
if event_id ~= '' and redis.call('HEXISTS', calls, event_id) == 1 then
  redis.call('HSET', calls, event_id, (string.gsub(call, '%%s', moved)))
end
return moved
