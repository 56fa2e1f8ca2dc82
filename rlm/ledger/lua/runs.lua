--- open_run
-- Opens a run: everything unsettled in the ledger is carried over into it; events retried by hand count as taken.
-- KEYS[1]  lease    hash with the fencing token
-- KEYS[2]  current  id of the open run
-- KEYS[3]  run      hash of the run to open
-- KEYS[4]  tally    hash of its counts
-- KEYS[5..] for each type in the ledger: its pending zset, then its retried zset
-- ARGV[1]  token
-- ARGV[2]  run id
-- ARGV[3]  fields   number of field-value pairs for the run's hash that follow
-- then the fields and values; then the types, in the order of their keys
-- Returns  the id of the open run: this one, or another that was already open
-- Atomic because the books of a run start from what is pending at the instant it opens.
local lease, current, run, tally = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local token, run_id, fields = ARGV[1], ARGV[2], tonumber(ARGV[3])
-- include fence
local open = redis.call('GET', current)
if open then return open end
for index = 5, #KEYS do redis.call('ZCARD', KEYS[index]) end  -- fails, if it must, before anything is changed
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
  local few, many = KEYS[4 + 2 * index], KEYS[3 + 2 * index]
  if redis.call('ZCARD', few) > redis.call('ZCARD', many) then few, many = many, few end
  local given = redis.call('ZRANGE', few, 0, -1, 'WITHSCORES')  -- cheaper than a union, which would copy both
  for place = 1, #given, 2 do redis.call('ZADD', many, given[place + 1], given[place]) end
  redis.call('DEL', few)
  if many ~= pending then redis.call('RENAME', many, pending) end
end
return run_id

--- advance_run
-- Moves the open run to its next state and writes what is known of it then.
-- KEYS[1]  lease    hash with the fencing token
-- KEYS[2]  current  id of the open run
-- KEYS[3]  run      its hash
-- KEYS[4]  releases list of the released calls; emptied in any state but running
-- ARGV[1]  token
-- ARGV[2]  run id
-- ARGV[3]  state    the state to move to
-- ARGV[4]  before   the states that may move there, each followed by a space
-- ARGV[5..] fields and values to write
-- Returns  1 moved, or already in that state; 0 that run is no longer open; the current state if it may not move
-- Atomic because a conductor that lost its lease must not move a run that another one conducts.
--          And because the state could change between reading and writing it.
local lease, current, run, releases = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local token, run_id, state, before = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
-- include fence
if redis.call('GET', current) ~= run_id then return 0 end
local from = redis.call('HGET', run, 'state')  -- nil: the run's data was lost and is written again
if from and from ~= state and not string.find(before, from .. ' ', 1, true) then return from end
if state ~= 'running' then redis.call('DEL', releases) end
redis.call('HSET', run, 'state', state)
for index = 5, #ARGV, 2 do
  redis.call('HSET', run, ARGV[index], ARGV[index + 1])
end
return 1

--- note_run
-- Writes what is known of the open run, in any state.
-- KEYS[1]  lease    hash with the fencing token
-- KEYS[2]  current  id of the open run
-- KEYS[3]  run      its hash
-- ARGV[1]  token
-- ARGV[2]  run id
-- ARGV[3..] fields and values to write
-- Returns  1 written, 0 that run is no longer open
-- Atomic because a conductor that lost its lease must not write to a run that another one conducts.
local lease, current, run = KEYS[1], KEYS[2], KEYS[3]
local token, run_id = ARGV[1], ARGV[2]
-- include fence
if redis.call('GET', current) ~= run_id then return 0 end
for index = 3, #ARGV, 2 do
  redis.call('HSET', run, ARGV[index], ARGV[index + 1])
end
return 1

--- end_overdue
-- Finishes a run whose conductor let its deadline pass, and takes the lease from that conductor.
-- KEYS[1]  lease    hash: owner, token, expires_us
-- KEYS[2]  current  id of the open run
-- KEYS[3]  run      its hash
-- KEYS[4]  releases list of the released calls
-- ARGV[1]  run id
-- ARGV[2..] fields and values to write
-- Returns  1 it now finishes; 0 it already does, is no longer open, or its deadline has not passed
-- Atomic because its conductor may end it at the same moment, and must change nothing later: its token becomes invalid.
local lease, current, run, releases = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local run_id = ARGV[1]
-- include now
if redis.call('GET', current) ~= run_id then return 0 end
local told = redis.call('HMGET', run, 'state', 'deadline_us')
local deadline = tonumber(told[2] or nil)
if told[1] == 'finishing' or not deadline or now < deadline then return 0 end
-- A lease without a token gets a new one when it is taken, larger than any before.
if redis.call('HEXISTS', lease, 'token') == 1 then redis.call('HINCRBY', lease, 'token', 1) end
redis.call('HDEL', lease, 'owner', 'expires_us')
redis.call('DEL', releases)
redis.call('HSET', run, 'state', 'finishing', unpack(ARGV, 2))
return 1

--- cancel_run
-- Asks the conductor of the open run to end it now.
-- KEYS[1]  current  id of the open run
-- KEYS[2]  run      its hash
-- KEYS[3]  releases list of the released calls
-- ARGV[1]  run id
-- Returns  the state it was in, or an empty string if that run is not open
-- Atomic because a run that is already finishing must not be marked as cancelled.
local current, run, releases = KEYS[1], KEYS[2], KEYS[3]
local run_id = ARGV[1]
if redis.call('GET', current) ~= run_id then return '' end
local state = redis.call('HGET', run, 'state')
if state ~= 'finishing' then
  redis.call('DEL', releases)
  redis.call('HSET', run, 'cancelled', '1')
end
return state

--- close_run
-- Closes a finishing run once: writes its record, measurements and totals, so that the next run may open.
-- KEYS[1]  current  id of the open run
-- KEYS[2]  run      its hash
-- KEYS[3]  tally    hash of its counts
-- KEYS[4]  timings  list of its completed calls
-- KEYS[5]  records  hash: run id -> record, JSON
-- KEYS[6]  runs     list of run ids, newest first
-- KEYS[7]  wanted   number of workers wanted
-- KEYS[8]  measured hash: type and endpoint -> what is kept of its calls, JSON
-- KEYS[9]  totals   hash: what is counted over all runs; it only grows
-- KEYS[10] releases list of the released calls
-- KEYS[11..] every zset that must be empty by now: inflight, backoff and spent of each type
-- ARGV[1]  run id
-- ARGV[2]  record
-- ARGV[3]  wanted   workers wanted from now on
-- ARGV[4]  fields   number of field-value pairs for measured that follow
-- then these pairs; then the fields of totals that are not in the tally, and by how much each grows
-- Returns  1 closed; 0 it was closed already; -1 something is still in flight
-- Atomic because the end-of-run actor and the conductor may both close it, and the second must change nothing.
--          And because readers that add the open run's tally to the totals must find it in exactly one of the two.
local current, run, tally, timings, records, runs, wanted, measured, totals, releases =
  KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[8], KEYS[9], KEYS[10]
local run_id, record, workers, fields = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
if redis.call('GET', current) ~= run_id or redis.call('HGET', run, 'state') ~= 'finishing' then return 0 end
for index = 11, #KEYS do
  if redis.call('EXISTS', KEYS[index]) == 1 then return -1 end
end
redis.call('LLEN', runs)  -- fails, if it must, before anything is changed
redis.call('HLEN', measured)
redis.call('HLEN', totals)
local counts = redis.call('HGETALL', tally)
redis.call('HSET', records, run_id, record)
redis.call('LPUSH', runs, run_id)
for index = 5, 4 + 2 * fields, 2 do
  redis.call('HSET', measured, ARGV[index], ARGV[index + 1])
end
for index = 1, #counts, 2 do
  redis.pcall('HINCRBY', totals, counts[index], counts[index + 1])  -- a total that is not a number is skipped
end
for index = 5 + 2 * fields, #ARGV, 2 do
  redis.pcall('HINCRBY', totals, ARGV[index], ARGV[index + 1])
end
redis.call('SET', wanted, workers)
redis.call('DEL', current, run, tally, timings, releases)
return 1

--- trim_records
-- Removes the oldest run records, which are already archived.
-- KEYS[1]  lease    hash with the fencing token
-- KEYS[2]  records  hash: run id -> record, JSON
-- KEYS[3]  runs     list of run ids, newest first
-- ARGV[1]  token
-- ARGV[2..] run ids, the oldest first
-- Returns  how many were removed; fewer than given if the oldest record is another one by now
-- Atomic because a deposed conductor, or a repeated call, must not remove records that are not archived.
local lease, records, runs = KEYS[1], KEYS[2], KEYS[3]
local token = ARGV[1]
-- include fence
local removed = 0
for index = 2, #ARGV do
  if redis.call('LINDEX', runs, -1) ~= ARGV[index] then break end
  redis.call('RPOP', runs)
  redis.call('HDEL', records, ARGV[index])
  removed = removed + 1
end
return removed

--- restore_run
-- Reopens a run whose data exists although the name of the open run was lost.
-- KEYS[1]  lease    hash with the fencing token
-- KEYS[2]  current  id of the open run
-- ARGV[1]  token
-- ARGV[2]  run id
-- Returns  1 restored, 0 a run is open
-- Atomic because at most one run may be open.
local lease, current = KEYS[1], KEYS[2]
local token, run_id = ARGV[1], ARGV[2]
-- include fence
return redis.call('SETNX', current, run_id)

--- restate_tally
-- Recomputes what an open run carried over, so that its books balance after its counts were lost.
-- KEYS[1]  lease    hash with the fencing token
-- KEYS[2]  current  id of the open run
-- KEYS[3]  tally    hash of its counts
-- KEYS[4..] for each type: its zsets pending, inflight, backoff and spent
-- ARGV[1]  token
-- ARGV[2]  run id
-- ARGV[3..] the types, in the order of their keys
-- Returns  1 recomputed, 0 that run is no longer open
-- Atomic because events are settled meanwhile.
local lease, current, tally = KEYS[1], KEYS[2], KEYS[3]
local token, run_id = ARGV[1], ARGV[2]
-- include fence
if redis.call('GET', current) ~= run_id then return 0 end
for index = 3, #ARGV do
  local type, unsettled = ARGV[index], 0
  for zset = 4 * index - 8, 4 * index - 5 do unsettled = unsettled + redis.call('ZCARD', KEYS[zset]) end
  local told = redis.call('HMGET', tally, 'completed:' .. type, 'failed:' .. type, 'taken:' .. type, 'carried:' .. type)
  for place = 1, 4 do told[place] = tonumber(told[place]) or 0 end
  local missing = unsettled + told[1] + told[2] - told[3] - told[4]
  local carried = math.max(told[4] + missing, 0)  -- below 0 too much was counted as taken, because settled counts are lost
  redis.call('HSET', tally, 'carried:' .. type, carried, 'taken:' .. type, told[3] + missing - (carried - told[4]))
end
return 1
