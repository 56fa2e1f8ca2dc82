--- retry_letter
-- Removes a dead letter and, in the same step, sends its event into the next run, or pushes its item back.
-- KEYS[1]  failed    the list of dead letters
-- KEYS[2]  event     hash of its event, or the audit list for a letter without an event
-- KEYS[3]  retried   zset of its type, merged into pending when a run opens; unused without an event
-- KEYS[4]  types     set of types that have events in the ledger
-- KEYS[5]  sequence  counter of arrivals
-- ARGV[1]  letter    as stored in the list
-- ARGV[2]  event id  or empty
-- ARGV[3]  type
-- ARGV[4]  wallet
-- ARGV[5]  item      raw
-- ARGV[6]  offset    what the priority adds to the order score
-- Returns  1 done; 0 the letter is gone and nothing was changed; -1 its event is already unsettled
-- Atomic because there must never be both the letter and the event, or neither.
local failed, event, retried, types, sequence = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local letter, event_id, type, wallet, item, offset = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6])
if event_id ~= '' and redis.call('HEXISTS', event, 'item') == 1 then return -1 end
if redis.call('LREM', failed, 1, letter) == 0 then return 0 end
if event_id == '' then
  -- Another letter of the same item may have pushed it back already; look for it among the newest.
  if not redis.call('LPOS', event, item, 'MAXLEN', 10000) then redis.call('LPUSH', event, item) end
  return 1
end
local score = string.format('%.0f', offset + redis.call('INCR', sequence))
redis.call('DEL', event)
local time = redis.call('TIME')
local taken_at = string.format('%.3f', time[1] + time[2] / 1000000)
redis.call('HSET', event, 'type', type, 'wallet', wallet, 'item', item, 'score', score, 'taken_at', taken_at)
redis.call('ZADD', retried, score, event_id)
redis.call('SADD', types, type)
return 1

--- drop_letter
-- Removes a dead letter, and forgets its event if that is settled and failed with this letter.
-- KEYS[1]  failed  the list of dead letters
-- KEYS[2]  event   hash of its event; any other key for a letter without one
-- ARGV[1]  letter    as stored in the list
-- ARGV[2]  event id  or empty
-- Returns  1 dropped, 0 the letter is gone
-- Atomic because an event that was taken again meanwhile must not be forgotten with its old letter.
local failed, event = KEYS[1], KEYS[2]
local letter, event_id = ARGV[1], ARGV[2]
if redis.call('LREM', failed, 1, letter) == 0 then return 0 end
local known = redis.call('HMGET', event, 'state', 'letter')
if event_id ~= '' and known[1] == 'failed' and (known[2] or redis.sha1hex(letter)) == redis.sha1hex(letter) then
  redis.call('DEL', event)
end
return 1

--- trim_letters
-- Removes the oldest dead letters, which are already archived; their events stay known as failed.
-- KEYS[1]  lease   hash with the fencing token
-- KEYS[2]  failed  the list of dead letters, newest first
-- ARGV[1]  token
-- ARGV[2..] the SHA-1 of each letter that was read, the oldest first
-- Returns  how many were removed; fewer than given if the oldest letter is another one by now
-- Atomic because a letter may be retried or dropped meanwhile, and no letter that is not archived may be removed.
local lease, failed = KEYS[1], KEYS[2]
local token = ARGV[1]
-- include fence
local removed = 0
for index = 2, #ARGV do
  local letter = redis.call('LINDEX', failed, -1)
  if not letter or redis.sha1hex(letter) ~= ARGV[index] then break end
  redis.call('RPOP', failed)
  removed = removed + 1
end
return removed

--- trim_giant
-- Removes an archived entry of the dead letters that was set aside because it is too large to read.
-- KEYS[1]  lease  hash with the fencing token
-- KEYS[2]  aside  list of the names of entries set aside
-- KEYS[3]  giant  the entry, a string
-- ARGV[1]  token
-- ARGV[2]  name   of KEYS[3]
-- Returns  1 done, 0 it was already removed
-- Atomic because a deposed conductor must not remove what its successor has not archived.
local lease, aside, giant = KEYS[1], KEYS[2], KEYS[3]
local token, name = ARGV[1], ARGV[2]
-- include fence
if redis.call('LREM', aside, -1, name) == 0 then return 0 end
redis.call('UNLINK', giant)
return 1
