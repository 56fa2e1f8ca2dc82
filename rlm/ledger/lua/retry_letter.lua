-- Removes a dead letter and, in the same step, makes its event one of the next run, or puts its item back.
-- KEYS[1]  failed    the list of dead letters
-- KEYS[2]  event     hash of its event; the audit list for a letter without one
-- KEYS[3]  retried   zset of its type, merged into pending when a run opens; unused without an event
-- KEYS[4]  types     set of types that have events in the ledger
-- KEYS[5]  sequence  counter of arrivals
-- ARGV[1]  letter    as it stands in the list
-- ARGV[2]  event id  or empty
-- ARGV[3]  type
-- ARGV[4]  wallet
-- ARGV[5]  item      raw
-- ARGV[6]  offset    what the priority adds to the order score
-- Returns  1 done; 0 the letter is not there any more and nothing was changed; -1 its event is unsettled already
-- Atomic because letter and event must never exist both, nor neither.
local failed, event, retried, types, sequence = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local letter, event_id, type, wallet, item, offset = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6])
if event_id ~= '' and redis.call('HEXISTS', event, 'item') == 1 then return -1 end
if redis.call('LREM', failed, 1, letter) == 0 then return 0 end
if event_id == '' then
  redis.call('LPUSH', event, item)
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
