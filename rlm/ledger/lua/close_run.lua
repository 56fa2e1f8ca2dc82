-- Closes a finishing run: its record, what was measured and the totals are written, once, and the next run may open.
-- KEYS[1]  current  id of the open run
-- KEYS[2]  run      its hash
-- KEYS[3]  tally    hash of its counts
-- KEYS[4]  timings  list of its completed calls
-- KEYS[5]  records  hash: run id -> record, JSON
-- KEYS[6]  runs     list of run ids, newest first
-- KEYS[7]  wanted   number of workers wanted
-- KEYS[8]  measured hash: type and endpoint -> what is kept of its calls, JSON
-- KEYS[9]  totals   hash: what is counted over all runs, which only grows
-- KEYS[10..] every zset that must be empty by now: released, inflight, backoff and spent of each type
-- ARGV[1]  run id
-- ARGV[2]  record
-- ARGV[3]  wanted   workers wanted from now on
-- ARGV[4]  fields   number of field-value pairs of measured that follow
-- then those that are new; then the fields of totals, beside those of the tally, and by how much each grows
-- Returns  1 closed; 0 it was closed already; -1 something is still released or in flight
-- Atomic because the end-of-run actor and the conductor may both close it, and the second must change nothing.
--          And because whoever adds the open run's tally to the totals must find it in one of the two.
local current, run, tally, timings, records, runs, wanted, measured, totals =
  KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[8], KEYS[9]
local run_id, record, workers, fields = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
if redis.call('GET', current) ~= run_id or redis.call('HGET', run, 'state') ~= 'finishing' then return 0 end
for index = 10, #KEYS do
  if redis.call('EXISTS', KEYS[index]) == 1 then return -1 end
end
redis.call('LLEN', runs)  -- what is refused is so before anything is changed
redis.call('HLEN', measured)
redis.call('HLEN', totals)
local counts = redis.call('HGETALL', tally)
redis.call('HSET', records, run_id, record)
redis.call('LPUSH', runs, run_id)
for index = 5, 4 + 2 * fields, 2 do
  redis.call('HSET', measured, ARGV[index], ARGV[index + 1])
end
for index = 1, #counts, 2 do
  redis.pcall('HINCRBY', totals, counts[index], counts[index + 1])  -- one that is no number costs itself
end
for index = 5 + 2 * fields, #ARGV, 2 do
  redis.pcall('HINCRBY', totals, ARGV[index], ARGV[index + 1])
end
redis.call('SET', wanted, workers)
redis.call('DEL', current, run, tally, timings)
return 1
