--- changes
-- Records changes of the live system, each in the same step.
-- Gives  stamp_of(now)   a moment in seconds since 1970, with six decimals
--        record_change(now, changes, kept, before, record)  before: the old value, or nil; kept: number of records kept
local function stamp_of(now)
  return string.format('%d.%06d', math.floor(now / 1000000), now % 1000000)
end
local function record_change(now, changes, kept, before, record)
  local old = before and '"' .. string.gsub(before, '[%c"\\]', ' ') .. '"' or 'null'
  call('LPUSH', changes, '{"at":' .. stamp_of(now) .. ',"from":' .. old .. ',' .. string.sub(record, 2))
  call('LTRIM', changes, 0, kept - 1)
end

--- pause_endpoint(prefix, changes; window, names: json, pause_us: number, by, kept: number, record)
-- Pauses an endpoint or a budget for all workers at once, as an operator ordered, and records it.
-- window    its window id
-- names     of the endpoints with that window: one, or those of a budget
-- changes   list of records (JSON), newest first
-- pause_us  how long, microseconds; negative: until it is resumed
-- by        who pauses it
-- kept      number of records kept
-- record    of the change, without its time and the old value
-- Returns   1; an earlier pause is replaced, even by a shorter one
-- Atomic because a crash must not leave the pause without its record.
-- include endpoints
-- include changes
local now, place = now_us(), P .. 'endpoint:' .. window
local paused = tonumber(call('HGET', place, 'pause') or 0) > now
local until_us = pause_us < 0 and '253402300799000000' or us(now + pause_us)  -- the end of year 9999
call('HSET', place, 'pause', until_us, 'paused_by', by, 'paused_at', stamp_of(now))
for _, name in ipairs(names) do refresh(now, name) end
record_change(now, changes, kept, paused and 'paused' or nil, record)
call('PUBLISH', P .. 'wake:workers', 'paused')
return 1

--- resume_endpoint(prefix, changes; window, names: json, kept: number, record)
-- Ends an operator's pause of an endpoint or a budget, and a rest because of its answers, and records it.
-- window   its window id
-- names    of the endpoints with that window: one, or those of a budget
-- changes  list of records (JSON), newest first
-- kept     number of records kept
-- record   of the change, without its time and the old value
-- Returns  {paused, rested}: whether that was so and has ended now; if neither was, nothing is recorded
--          After a rest, its next call is a probe. A hold continues, because a slot might not be free.
-- Atomic because a rest may begin at the same moment, and the record must say what was ended.
-- include endpoints
-- include base
-- include changes
local now, place = now_us(), P .. 'endpoint:' .. window
local state = call('HMGET', place, 'pause', 'rest', 'asked')
local function lasts(until_us) return (tonumber(until_us or nil) or 0) > now end
local paused, rested = lasts(state[1]), lasts(state[2]) or lasts(state[3])
call('HDEL', place, 'pause', 'paused_by', 'paused_at', 'rest', 'asked')
if paused or rested then
  local before = paused and (rested and 'paused, open' or 'paused') or 'open'
  record_change(now, changes, kept, before, record)
end
for _, name in ipairs(names) do freed(now, name) end
call('PUBLISH', P .. 'wake:workers', 'resumed')
return named{paused = paused, rested = rested}

--- set_limit(prefix, changes; window, limit, in_file, kept: number, record)
-- Sets the limit of an endpoint or a budget by hand, and records it.
-- changes  list of records (JSON), newest first
-- window   its window id
-- limit
-- in_file  its limit in the operator's file, which is in force if none was published yet
-- kept     number of records kept
-- record   of the change, without its time and the old value
-- Returns  the limit that was in force before; if it is the same, nothing is recorded
-- Atomic because the record must say what this replaced, and when.
-- include base
-- include changes
local rules, field = prefix .. 'rules', 'limit ' .. window
local before = call('HGET', rules, field) or in_file
call('HSETNX', rules, 'filed ' .. window, in_file)  -- otherwise the first publication would take the file for changed
call('HSET', rules, field, limit)
if before ~= limit then record_change(now_us(), changes, kept, before, record) end
return before

--- publish_limits(prefix, lease, changes; token, kept: number, limited: json)
-- Publishes the limits of the configuration file, except for limits set by hand that still apply. A limit belongs to the
-- window, so an endpoint or a budget that is renamed keeps it. In `rules` are `limit WINDOW`: the limit in force, and
-- `filed WINDOW`: the limit that the file had when it was last published.
-- lease    hash with the fencing token
-- changes  list of records (JSON), newest first
-- token    the caller's fencing token
-- kept     number of records kept
-- limited  {name, limit, window, record} of each: its limit in the file, its window id, the record of a change to it without
--          time and old value
-- Returns  how many limits were set from the file
-- Atomic because a limit set by hand must hold exactly until the file's value for it changes.
-- include base
-- include changes
if fenced(lease, token) then return FENCED end
local now, rules, set = now_us(), prefix .. 'rules', 0
for _, each in ipairs(limited) do
  local field, filed = 'limit ' .. each.window, 'filed ' .. each.window
  call('HSET', prefix .. 'endpoint:' .. each.window, 'named', each.name)
  if call('HGET', rules, filed) ~= each.limit then
    local before = call('HGET', rules, field)
    call('HSET', rules, filed, each.limit, field, each.limit)
    set = set + 1
    if before ~= each.limit then record_change(now, changes, kept, before, each.record) end
  end
end
return set
