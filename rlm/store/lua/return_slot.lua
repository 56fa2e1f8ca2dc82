-- Gives an unused slot back, or blocks a used one for a period from now.
-- KEYS[1]  window    list of slots: stamps in microseconds of Redis time, newest first
-- KEYS[2]  calls     hash of the worker: event id -> its call; unused without an event id
-- KEYS[3]  inflight  zset of the event's type, by the end of the lease, negative without a slot; likewise
-- ARGV[1]  stamp     of the slot
-- ARGV[2]  event id  it was taken for, or empty
-- ARGV[3]  call      what is noted of the call from now on, %s being the new stamp; empty: the slot is given back
-- Returns  the slot's stamp from now on, '0' when it is given back or was no longer there
-- Atomic because the slot must not be missing for an instant while it is moved.
local window, calls, inflight = KEYS[1], KEYS[2], KEYS[3]
local stamp, event_id, call = ARGV[1], ARGV[2], ARGV[3]
if redis.call('LREM', window, 1, stamp) == 0 then return '0' end
if call == '' then
  if event_id ~= '' and redis.call('HEXISTS', calls, event_id) == 1 then
    redis.call('HSET', calls, event_id, '')
    local lease = tonumber(redis.call('ZSCORE', inflight, event_id) or 0)
    if lease > 0 then redis.call('ZADD', inflight, string.format('%.0f', -lease), event_id) end
  end
  return '0'
end
local time = redis.call('TIME')
local newest = tonumber(redis.call('LINDEX', window, 0) or 0)  -- the list stays in order, whatever the clock does
local moved = string.format('%.0f', math.max(time[1] * 1000000 + time[2], newest))
redis.call('LPUSH', window, moved)
if event_id ~= '' and redis.call('HEXISTS', calls, event_id) == 1 then
  redis.call('HSET', calls, event_id, (string.gsub(call, '%%s', moved)))
end
return moved
