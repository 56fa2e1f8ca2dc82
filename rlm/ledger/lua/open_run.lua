-- Opens a run: all that is unsettled in the ledger is carried over into it, what was retried by hand counts as taken.
-- KEYS[1]  lease    hash with the fencing token
-- KEYS[2]  current  id of the open run
-- KEYS[3]  run      hash of the run to open
-- KEYS[4]  tally    hash of its counts
-- KEYS[5..] for each type in the ledger: its pending zset, then its retried zset
-- ARGV[1]  token
-- ARGV[2]  run id
-- ARGV[3]  fields   number of field-value pairs that follow, for the run's hash
-- then the fields and values; then the types, in the order of their keys
-- Returns  the id of the run that is open now: this one, or another that was
-- Atomic because the books of a run start from what is pending at the instant it opens.
local lease, current, run, tally = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local token, run_id, fields = ARGV[1], ARGV[2], tonumber(ARGV[3])
-- include fence
local open = redis.call('GET', current)
if open then return open end
for index = 5, #KEYS do redis.call('ZCARD', KEYS[index]) end  -- what is refused is so before anything is changed
redis.call('SET', current, run_id)
redis.call('HSET', run, 'run_id', run_id)
for index = 1, fields do
  redis.call('HSET', run, ARGV[2 + 2 * index], ARGV[3 + 2 * index])
end
local at = 3 + 2 * fields
for index = 1, (#KEYS - 4) / 2 do
  local pending, retried, type = KEYS[3 + 2 * index], KEYS[4 + 2 * index], ARGV[at + index]
  redis.call('HINCRBY', tally, 'carried:' .. type, redis.call('ZCARD', pending))
  redis.call('HINCRBY', tally, 'taken:' .. type, redis.call('ZCARD', retried))
  local given = redis.call('ZRANGE', retried, 0, -1, 'WITHSCORES')  -- few, where a union would copy all leftovers
  for place = 1, #given, 2 do redis.call('ZADD', pending, given[place + 1], given[place]) end
  redis.call('DEL', retried)
end
return run_id
