-- Makes released events pending again that nobody will claim.
-- KEYS[1]  released  zset of the type, by when an unclaimed one is pending again (microseconds of Redis time)
-- KEYS[2]  pending   zset of the type
-- KEYS[3..] hash of each event
-- ARGV[1]  when  'expired': only those whose time to be claimed is over; 'dead': the worker that fetched them died
-- then for each event: its id, the number of the release meant (empty: any)
-- Returns  how many are pending again
-- Atomic because a claim may come in at the same moment: one of the two must lose.
local released, pending = KEYS[1], KEYS[2]
local when = ARGV[1]
-- include now
local returned = 0
for index = 1, #KEYS - 2 do
  local event, event_id, release = KEYS[2 + index], ARGV[2 * index], ARGV[1 + 2 * index]
  local due = redis.call('ZSCORE', released, event_id)
  local told = redis.pcall('HMGET', event, 'release', 'score')
  local meant = release == '' or told[1] == release
  if due and meant and (when == 'dead' or tonumber(due) <= now) then
    redis.call('ZREM', released, event_id)
    redis.call('ZADD', pending, tonumber(told[2] or nil) and told[2] or '0', event_id)
    returned = returned + 1
  end
end
return returned
