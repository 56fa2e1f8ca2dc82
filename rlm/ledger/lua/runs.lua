--- open_run(prefix; token, run_id, request, fields: data, types: data)
-- Opens a run: everything unsettled of these types is carried over into it; letters retried by hand since the last one count
-- as taken already. What a run that Redis has lost left in flight must be ready again before (`end_run`). Its tick is noted.
-- request  that it answers, if any
-- Returns  the id of the open run: this one, or another that was already open; empty: the request was withdrawn
-- Atomic because the books of a run start from what is ready at the instant it opens, and because a request or tick that is
--          not answered in the same step would be served twice if the conductor died.
if fenced(token) then return FENCED end
local open = call('HGET', P .. 'run', 'run_id')
if open then return open end
if request ~= '' then
  if call('HEXISTS', P .. 'requests', request) == 0 then return '' end
  call('HSET', P .. 'requests', request, cjson.encode{run_id = run_id})
end
call('DEL', P .. 'open')
call('HSET', P .. 'run', 'run_id', run_id)
for field, value in pairs(fields) do call('HSET', P .. 'run', field, value) end
if fields.trigger == 'schedule' then call('HSET', P .. 'lease', 'ticked_at', fields.started_at) end
for _, kind in ipairs(types) do
  call('HDEL', P .. 'tally', 'dropped:' .. kind)
  local ready, retried = tonumber(try('ZCARD', P .. 'ready:' .. kind)) or 0, number(call('HGET', P .. 'tally', 'taken:' .. kind))
  call('HSET', P .. 'tally', 'carried:' .. kind, math.max(0, ready - retried))
end
return run_id

--- write_run(prefix; token, run_id, fields: data, gone: data, wanted)
-- Writes what is known of the open run, and how many workers are `wanted` from now on, empty to leave it. The lanes are woken if
-- they may get a call from now on, or none any more.
-- Returns  1; 0: it is not open, or finishing, and nothing was written
-- Atomic because a conductor that lost its lease must not move a run that another one conducts, because the state could change
--          between reading and writing it, and because a lane that is woken must find all of the plan.
if fenced(token) then return FENCED end
local open = call('HMGET', P .. 'run', 'run_id', 'state')
if open[1] ~= run_id or open[2] == 'finishing' then return 0 end
for field, value in pairs(fields) do call('HSET', P .. 'run', field, value) end
local why = fields.cancelled and 'cancelled' or fields.state == 'running' and 'running'
if why == 'running' then reset() end  -- no call there could end in time in the run before
for _, field in ipairs(gone) do why = call('HDEL', P .. 'run', field) > 0 and field or why end
if wanted ~= '' then call('HSET', P .. 'processes', 'wanted', wanted) end
if why then wake(why) end
return 1

--- end_run(prefix; token, run_id, fields: data, most: number)
-- Ends the open run: nothing is owned from here on. Then some of what it left is made ready again: what is in flight, whose
-- call counts as sent now, and what backs off or is without attempts.
-- token    empty: of a lane, which may end a run that is overdue, or in which nothing more can be done
-- run_id   empty: none is open, and Redis has lost the one that left this
-- Returns  how many were made ready, at `most`; -1 it is not open, or may not be ended yet
-- Atomic because a late answer must find that nothing is owned; so the counts of a finishing run no longer change, but by
--          this script, which is called until it finds nothing, because many events take long.
if fenced(token) then return FENCED end
local id, state, deadline, draining = unpack(call('HMGET', P .. 'run', 'run_id', 'state', 'deadline_us', 'draining'), 1, 4)
if (id or '') ~= run_id then return -1 end
if token == '' and state ~= 'finishing' and now < number(deadline) + 200000
  and (state ~= 'running' or draining or may_go_on(number(deadline), first(P .. 'open'), first(P .. 'due'))) then return -1 end
running = false  -- so `index` does nothing: the index is deleted below
if id and state ~= 'finishing' then
  call('HSET', P .. 'run', 'state', 'finishing', 'ended_us', us(now))
  for field, value in pairs(fields) do call('HSET', P .. 'run', field, value) end
  call('DEL', P .. 'open')
  call('PUBLISH', P .. 'wake:scheduler', 'ended')
end
local due = call('ZRANGE', P .. 'due', 0, most - 1)
for _, member in ipairs(due) do
  put_back(member, 'nobody knows: its run was closed before it was answered', 'cut by the deadline')
end
return #due

--- close_run(prefix; run_id, record, wanted, counts: data, added: data)
-- Closes a finishing run once: writes its record, the workers wanted from now on and the totals, to whose fields it adds what is
-- `added`, so that the next run may open.
-- counts   the tally that the record was made of; a letter that was retried since counts as taken by the next run
-- Returns  1 closed; 0 it was closed already; -1 something is not ready again
-- Atomic because the end-of-run actor and the conductor may both close it, and the second must change nothing.
--          And because readers that add the open run's tally to the totals must find it in exactly one of the two.
local open = call('HMGET', P .. 'run', 'run_id', 'state')
if open[1] ~= run_id or open[2] ~= 'finishing' then return 0 end
if call('ZCARD', P .. 'due') > 0 then return -1 end
local tally = call('HGETALL', P .. 'tally')
call('HSET', P .. 'records', run_id, record)
call('HSET', P .. 'processes', 'wanted', wanted)
for field, by in pairs(added) do redis.pcall('HINCRBY', P .. 'totals', field, by) end  -- one that is not a number is skipped
call('DEL', P .. 'run', P .. 'tally', P .. 'open')
for place = 1, #tally, 2 do
  local kind, late = string.match(tally[place], '^taken:(.*)'), number(tally[place + 1]) - (counts[tally[place]] or 0)
  late = kind and math.min(math.floor(late), number(redis.pcall('ZCARD', P .. 'ready:' .. kind))) or 0
  if late > 0 then call('HSET', P .. 'tally', tally[place], late) end
end
return 1
