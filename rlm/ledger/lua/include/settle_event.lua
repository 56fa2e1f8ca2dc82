-- Ends an event: without its item it is remembered for a while, to recognise duplicates, or it is forgotten at once.
-- Gives  settle_event(event, state, dedupe_ms)
local function settle_event(event, state, dedupe_ms)
  if dedupe_ms <= 0 then return redis.call('DEL', event) end
  redis.call('HDEL', event, 'item', 'owner')
  redis.call('HSET', event, 'state', state)
  redis.call('PEXPIRE', event, dedupe_ms)
end
