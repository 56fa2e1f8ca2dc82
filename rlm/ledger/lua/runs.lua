--- open_run(prefix, lease; token, run_id, fields: json, types: json)
-- Opens a run: everything unsettled in the ledger is carried over into it; letters retried by hand since the last one count
-- as taken already.
-- lease    hash with the fencing token
-- token    the caller's
-- run_id   of the new run
-- fields   fields and values of its hash
-- types    the names of the types in the ledger
-- Returns  the id of the open run: this one, or another that was already open
-- Atomic because the books of a run start from what is ready at the instant it opens.
-- include moving
-- include base
if fenced(lease, token) then return FENCED end
local open = redis.call('HGET', P .. 'run', 'run_id')
if open then return open end
for _, set in ipairs{'inflight', 'backoff'} do  -- of a run that Redis has lost
  for _, id in ipairs(redis.call('ZRANGE', P .. set, 0, -1)) do
    make_ready(id)
    redis.call('ZREM', P .. set, id)
  end
end
redis.call('DEL', P .. 'open')
redis.call('HSET', P .. 'run', 'run_id', run_id)
for field, value in pairs(fields) do redis.call('HSET', P .. 'run', field, value) end
for _, kind in ipairs(types) do
  redis.call('HDEL', P .. 'tally', 'dropped:' .. kind)
  local retried = tonumber(redis.call('HGET', P .. 'tally', 'taken:' .. kind) or nil) or 0
  redis.call('HSET', P .. 'tally', 'carried:' .. kind, math.max(0, (tonumber(try('ZCARD', P .. 'ready:' .. kind)) or 0) - retried))
end
return run_id

--- advance_run(prefix, lease; token, run_id, state, barred: json, fields: json)
-- Moves the open run to its next state and writes what is known of it then. A run that begins to run wakes the lanes.
-- lease    hash with the fencing token
-- token, run_id
-- state    the state to move to
-- barred   the states that may not move there: {STATE = true}
-- fields   fields and values to write
-- Returns  1 moved, or already in that state; 0 that run is no longer open; the current state if it may not move
-- Atomic because a conductor that lost its lease must not move a run that another one conducts.
--          And because the state could change between reading and writing it.
-- include moving
-- include base
if fenced(lease, token) then return FENCED end
if redis.call('HGET', P .. 'run', 'run_id') ~= run_id then return 0 end
local from = redis.call('HGET', P .. 'run', 'state')  -- false, or no state: the run's data was lost and is written again
if from and barred[from] then return from end
redis.call('HSET', P .. 'run', 'state', state)
for field, value in pairs(fields) do redis.call('HSET', P .. 'run', field, value) end
if state == 'running' then
  for _, field in ipairs(redis.call('HKEYS', P .. 'rules')) do
    local kind = string.match(field, '^type (.*)')
    if kind then
      -- Where no call could end in time in an earlier run.
      for _, member in ipairs(redis.call('ZRANGEBYSCORE', P .. 'free:' .. kind, us(FAR), '+inf')) do
        redis.call('ZADD', P .. 'free:' .. kind, 0, member)
      end
      index(kind)
    end
  end
  wake('running')
end
return 1

--- note_run(prefix, lease; token, run_id, fields: json, gone: json)
-- Writes what is known of the open run, in any state.
-- lease    hash with the fencing token
-- token, run_id
-- fields   fields and values to write
-- gone     fields to delete; the lanes are woken, because they may get a call again, or the run may be over
-- Returns  1 written, 0 that run is no longer open
-- Atomic because a conductor that lost its lease must not write to a run that another one conducts.
-- include moving
-- include base
if fenced(lease, token) then return FENCED end
if redis.call('HGET', P .. 'run', 'run_id') ~= run_id then return 0 end
for field, value in pairs(fields) do redis.call('HSET', P .. 'run', field, value) end
for _, field in ipairs(gone) do
  if redis.call('HDEL', P .. 'run', field) == 1 then wake(field) end
end
return 1

--- cancel_run(prefix; run_id)
-- Asks the conductor of the open run to end it now: no lane gets a call any more.
-- run_id
-- Returns  the state it was in, or an empty string if that run is not open
-- Atomic because a run that is already finishing must not be marked as cancelled.
-- include moving
local id, state = unpack(redis.call('HMGET', P .. 'run', 'run_id', 'state'))
if id ~= run_id then return '' end
if state ~= 'finishing' then
  redis.call('HSET', P .. 'run', 'cancelled', '1')
  wake('cancelled')
end
return state or ''

--- end_run(prefix, lease; token, run_id, fields: json)
-- Ends the open run: nothing is owned from here on, and what is in flight counts as sent now and waits again.
-- lease    hash with the fencing token
-- token    the conductor's; empty: of a lane, which may end a run that is overdue, or in which nothing more can be done
-- run_id
-- fields   fields and values to write
-- Returns  1 it is finishing; 0 it is not open, or may not be ended yet
-- Atomic because a late answer must find that nothing is owned; so the counts of a finishing run no longer change.
-- include moving
-- include base
if token ~= '' and fenced(lease, token) then return FENCED end
local now = now_us()
local id, state, deadline, draining = unpack(redis.call('HMGET', P .. 'run', 'run_id', 'state', 'deadline_us', 'draining'), 1, 4)
if id ~= run_id then return 0 end
if state == 'finishing' then return 1 end
if token == '' and now < (tonumber(deadline or nil) or 0) + 200000 then
  local opens_at = tonumber(redis.call('ZRANGE', P .. 'open', 0, 0, 'WITHSCORES')[2] or nil) or math.huge
  local returns = tonumber(redis.call('ZRANGE', P .. 'backoff', 0, 0, 'WITHSCORES')[2] or nil) or math.huge
  if state ~= 'running' or draining or redis.call('EXISTS', P .. 'inflight') == 1
    or math.min(opens_at, returns) <= tonumber(deadline) then return 0 end
end
running = false  -- so `index` does nothing: the index is deleted below
for _, event in ipairs(redis.call('ZRANGE', P .. 'inflight', 0, -1)) do
  revoke(now, run_id, event, {text = 'nobody knows: its run was closed before it was answered', kind = 'cut by the deadline'})
  make_ready(event)
end
redis.call('HSET', P .. 'run', 'state', 'finishing')
for field, value in pairs(fields) do redis.call('HSET', P .. 'run', field, value) end
redis.call('DEL', P .. 'open')
redis.call('PUBLISH', P .. 'wake:scheduler', 'ended')
return 1

--- return_backoff(prefix; run_id, most: number)
-- Makes events ready again that a finishing run has left in their back-off, or without attempts.
-- run_id
-- most     at most so many
-- Returns  how many are ready again, -1 if that run is not finishing
-- Atomic because an event must be in exactly one state at any instant.
-- include moving
local id, state = unpack(redis.call('HMGET', P .. 'run', 'run_id', 'state'))
if id ~= run_id or state ~= 'finishing' then return -1 end
local events = redis.call('ZRANGE', P .. 'backoff', 0, most - 1)
for _, event in ipairs(events) do
  redis.call('ZREM', P .. 'backoff', event)
  make_ready(event)
end
return #events

--- close_run(prefix, records, runs, wanted, measured, totals;
---   run_id, record, workers, history: number, kept: json, added: json)
-- Closes a finishing run once: writes its record, measurements and totals, so that the next run may open.
-- records  hash: run id -> record, JSON
-- runs     list of run ids, newest first
-- wanted   number of workers wanted
-- measured hash: type and endpoint -> what is kept of its calls, JSON
-- totals   hash: what is counted over all runs; it only grows
-- run_id, record
-- workers  wanted from now on
-- history  number of records that are kept
-- kept     fields and values for `measured`
-- added    the fields of `totals` that are not in the tally, and by how much each grows
-- Returns  1 closed; 0 it was closed already; -1 something is not ready again
-- Atomic because the end-of-run actor and the conductor may both close it, and the second must change nothing.
--          And because readers that add the open run's tally to the totals must find it in exactly one of the two.
local P = prefix
local id, state = unpack(redis.call('HMGET', P .. 'run', 'run_id', 'state'))
if id ~= run_id or state ~= 'finishing' then return 0 end
if redis.call('ZCARD', P .. 'inflight') + redis.call('ZCARD', P .. 'backoff') > 0 then return -1 end
redis.call('LLEN', runs)  -- fails, if it must, before anything is changed
redis.call('HLEN', measured)
redis.call('HLEN', totals)
local counts = redis.call('HGETALL', P .. 'tally')
redis.call('HSET', records, run_id, record)
redis.call('LPUSH', runs, run_id)
for _ = 1, math.min(1000, redis.call('LLEN', runs) - history) do
  redis.call('HDEL', records, redis.call('RPOP', runs))
end
for field, value in pairs(kept) do redis.call('HSET', measured, field, value) end
for index = 1, #counts, 2 do
  if string.sub(counts[index], 1, 5) ~= 'begun' then
    redis.pcall('HINCRBY', totals, counts[index], counts[index + 1])  -- a total that is not a number is skipped
  end
end
for field, number in pairs(added) do redis.pcall('HINCRBY', totals, field, number) end
redis.call('SET', wanted, workers)
redis.call('DEL', P .. 'run', P .. 'tally', P .. 'open')
return 1
