--- open_run(lease, current, run, tally; token, run_id, fields: json, types: json)
-- Opens a run: everything unsettled in the ledger is carried over into it; events retried by hand count as taken.
-- lease    hash with the fencing token
-- current  id of the open run
-- run      hash of the run to open
-- tally    hash of its counts
-- token
-- run_id
-- fields   fields and values of the run's hash
-- types    {name, pending, retried, holders} of each type in the ledger, with its zsets
-- Returns  the id of the open run: this one, or another that was already open
-- Atomic because the books of a run start from what is pending at the instant it opens.
-- include fencing
if fenced(lease, token) then return FENCED end
local open = redis.call('GET', current)
if open then return open end
for _, type in ipairs(types) do  -- fails, if it must, before anything is changed
  redis.call('ZCARD', type.pending)
  redis.call('ZCARD', type.retried)
  for _, holder in ipairs(type.holders) do redis.call('ZCARD', holder) end
end
redis.call('SET', current, run_id)
redis.call('HSET', run, 'run_id', run_id)
for field, value in pairs(fields) do redis.call('HSET', run, field, value) end
for _, type in ipairs(types) do
  local carried = redis.call('ZCARD', type.pending)
  for _, holder in ipairs(type.holders) do carried = carried + redis.call('ZCARD', holder) end  -- of a run that was lost
  redis.call('HINCRBY', tally, 'carried:' .. type.name, carried)
  redis.call('HINCRBY', tally, 'taken:' .. type.name, redis.call('ZCARD', type.retried))
  local few, many = type.retried, type.pending
  if redis.call('ZCARD', few) > redis.call('ZCARD', many) then few, many = many, few end
  local given = redis.call('ZRANGE', few, 0, -1, 'WITHSCORES')  -- cheaper than a union, which would copy both
  for place = 1, #given, 2 do redis.call('ZADD', many, given[place + 1], given[place]) end
  redis.call('DEL', few)
  if many ~= type.pending then redis.call('RENAME', many, type.pending) end
end
return run_id

--- advance_run(lease, current, run, releases; token, run_id, state, barred: json, fields: json)
-- Moves the open run to its next state and writes what is known of it then.
-- lease    hash with the fencing token
-- current  id of the open run
-- run      its hash
-- releases list of the released calls; emptied in any state but running
-- token
-- run_id
-- state    the state to move to
-- barred   the states that may not move there: {STATE = true}
-- fields   fields and values to write
-- Returns  1 moved, or already in that state; 0 that run is no longer open; the current state if it may not move
-- Atomic because a conductor that lost its lease must not move a run that another one conducts.
--          And because the state could change between reading and writing it.
-- include fencing
if fenced(lease, token) then return FENCED end
if redis.call('GET', current) ~= run_id then return 0 end
local from = redis.call('HGET', run, 'state')  -- false, or no state: the run's data was lost and is written again
if from and barred[from] then return from end
if state ~= 'running' then redis.call('DEL', releases) end
redis.call('HSET', run, 'state', state)
for field, value in pairs(fields) do redis.call('HSET', run, field, value) end
return 1

--- note_run(lease, current, run; token, run_id, fields: json)
-- Writes what is known of the open run, in any state.
-- lease    hash with the fencing token
-- current  id of the open run
-- run      its hash
-- token
-- run_id
-- fields   fields and values to write
-- Returns  1 written, 0 that run is no longer open
-- Atomic because a conductor that lost its lease must not write to a run that another one conducts.
-- include fencing
if fenced(lease, token) then return FENCED end
if redis.call('GET', current) ~= run_id then return 0 end
for field, value in pairs(fields) do redis.call('HSET', run, field, value) end
return 1

--- end_overdue(lease, current, run, releases; run_id, fields: json)
-- Finishes a run whose conductor let its deadline pass, and takes the lease from that conductor.
-- lease    hash: owner, token, expires_us
-- current  id of the open run
-- run      its hash
-- releases list of the released calls
-- run_id
-- fields   fields and values to write
-- Returns  1 it now finishes; 0 it already does, is no longer open, or its deadline has not passed
-- Atomic because its conductor may end it at the same moment, and must change nothing later: its token becomes invalid.
-- include clock
if redis.call('GET', current) ~= run_id then return 0 end
local state, deadline = unpack(redis.call('HMGET', run, 'state', 'deadline_us'))
deadline = tonumber(deadline or nil)
if state == 'finishing' or not deadline or now_us() < deadline then return 0 end
-- A lease without a token gets a new one when it is taken, larger than any before.
if redis.call('HEXISTS', lease, 'token') == 1 then redis.call('HINCRBY', lease, 'token', 1) end
redis.call('HDEL', lease, 'owner', 'expires_us')
redis.call('DEL', releases)
redis.call('HSET', run, 'state', 'finishing')
for field, value in pairs(fields) do redis.call('HSET', run, field, value) end
return 1

--- cancel_run(current, run, releases; run_id)
-- Asks the conductor of the open run to end it now.
-- current  id of the open run
-- run      its hash
-- releases list of the released calls
-- run_id
-- Returns  the state it was in, or an empty string if that run is not open
-- Atomic because a run that is already finishing must not be marked as cancelled.
if redis.call('GET', current) ~= run_id then return '' end
local state = redis.call('HGET', run, 'state')
if state ~= 'finishing' then
  redis.call('DEL', releases)
  redis.call('HSET', run, 'cancelled', '1')
end
return state

--- close_run(current, run, tally, timings, records, runs, wanted, measured, totals, releases;
---   run_id, record, workers, history: number, holders: json, kept: json, added: json)
-- Closes a finishing run once: writes its record, measurements and totals, so that the next run may open.
-- current  id of the open run
-- run      its hash
-- tally    hash of its counts
-- timings  list of its completed calls
-- records  hash: run id -> record, JSON
-- runs     list of run ids, newest first
-- wanted   number of workers wanted
-- measured hash: type and endpoint -> what is kept of its calls, JSON
-- totals   hash: what is counted over all runs; it only grows
-- releases list of the released calls
-- run_id
-- record
-- workers  wanted from now on
-- history  number of records that are kept
-- holders  every zset that must be empty by now: inflight, backoff and spent of each type
-- kept     fields and values for `measured`
-- added    the fields of `totals` that are not in the tally, and by how much each grows
-- Returns  1 closed; 0 it was closed already; -1 something is still in flight
-- Atomic because the end-of-run actor and the conductor may both close it, and the second must change nothing.
--          And because readers that add the open run's tally to the totals must find it in exactly one of the two.
if redis.call('GET', current) ~= run_id or redis.call('HGET', run, 'state') ~= 'finishing' then return 0 end
for _, holder in ipairs(holders) do
  if redis.call('EXISTS', holder) == 1 then return -1 end
end
redis.call('LLEN', runs)  -- fails, if it must, before anything is changed
redis.call('HLEN', measured)
redis.call('HLEN', totals)
local counts = redis.call('HGETALL', tally)
redis.call('HSET', records, run_id, record)
redis.call('LPUSH', runs, run_id)
for _ = 1, math.min(1000, redis.call('LLEN', runs) - history) do
  redis.call('HDEL', records, redis.call('RPOP', runs))
end
for field, value in pairs(kept) do redis.call('HSET', measured, field, value) end
for index = 1, #counts, 2 do
  redis.pcall('HINCRBY', totals, counts[index], counts[index + 1])  -- a total that is not a number is skipped
end
for field, number in pairs(added) do redis.pcall('HINCRBY', totals, field, number) end
redis.call('SET', wanted, workers)
redis.call('DEL', current, run, tally, timings, releases)
return 1
