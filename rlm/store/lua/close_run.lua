-- Closes a finishing run: its record and what was measured are written, once, and the next run may open.
-- KEYS[1]  current  id of the open run
-- KEYS[2]  run      its hash
-- KEYS[3]  tally    hash of its counts
-- KEYS[4]  timings  list of its completed calls
-- KEYS[5]  records  hash: run id -> record, JSON
-- KEYS[6]  runs     list of run ids, newest first
-- KEYS[7]  wanted   number of workers wanted
-- KEYS[8]  measured hash: type and endpoint -> what is kept of its calls, JSON
-- KEYS[9..] every zset that must be empty by now: released, inflight, backoff and spent of each type
-- ARGV[1]  run id
-- ARGV[2]  record
-- ARGV[3]  wanted   workers wanted from now on
-- ARGV[4..] fields and values of measured that are new
-- Returns  1 closed; 0 it was closed already; -1 something is still released or in flight
-- Atomic because the end-of-run actor and the conductor may both close it: the second changes nothing.
local current, run, tally, timings, records, runs, wanted, measured =
  KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[8]
local run_id, record, workers = ARGV[1], ARGV[2], ARGV[3]
if redis.call('GET', current) ~= run_id or redis.call('HGET', run, 'state') ~= 'finishing' then
  return 0
end
for index = 9, #KEYS do
  if redis.call('EXISTS', KEYS[index]) == 1 then return -1 end
end
redis.call('HSET', records, run_id, record)
redis.call('LPUSH', runs, run_id)
for index = 4, #ARGV, 2 do
  redis.call('HSET', measured, ARGV[index], ARGV[index + 1])
end
redis.call('SET', wanted, workers)
redis.call('DEL', current, run, tally, timings)
return 1
