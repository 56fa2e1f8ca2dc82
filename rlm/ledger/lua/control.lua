--- changes
-- Records changes of the live system, each in the same step.
-- Gives  stamp_of(now)   a moment in seconds since 1970, with six decimals
--        record_change(now, changes, kept, before, record)  before: the old value, or nil; kept: number of records kept
local function stamp_of(now)
  return string.format('%d.%06d', math.floor(now / 1000000), now % 1000000)
end
local function record_change(now, changes, kept, before, record)
  local old = before and '"' .. string.gsub(before, '[%c"\\]', ' ') .. '"' or 'null'
  redis.call('LPUSH', changes, '{"at":' .. stamp_of(now) .. ',"from":' .. old .. ',' .. string.sub(record, 2))
  redis.call('LTRIM', changes, 0, kept - 1)
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
local paused = tonumber(redis.call('HGET', place, 'pause') or 0) > now
local until_us = pause_us < 0 and '253402300799000000' or us(now + pause_us)  -- the end of year 9999
redis.call('HSET', place, 'pause', until_us, 'paused_by', by, 'paused_at', stamp_of(now))
for _, name in ipairs(names) do refresh(now, name) end
record_change(now, changes, kept, paused and 'paused' or nil, record)
redis.call('PUBLISH', P .. 'wake:workers', 'paused')
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
local state = redis.call('HMGET', place, 'pause', 'rest', 'asked')
local function lasts(until_us) return (tonumber(until_us or nil) or 0) > now end
local paused, rested = lasts(state[1]), lasts(state[2]) or lasts(state[3])
redis.call('HDEL', place, 'pause', 'paused_by', 'paused_at', 'rest', 'asked')
if paused or rested then
  local before = paused and (rested and 'paused, open' or 'paused') or 'open'
  record_change(now, changes, kept, before, record)
end
for _, name in ipairs(names) do freed(now, name) end
redis.call('PUBLISH', P .. 'wake:workers', 'resumed')
return named{paused = paused, rested = rested}

--- set_limit(limits, filed, changes, health; name, limit, in_file, kept: number, record)
-- Sets the limit of an endpoint or a budget by hand, and records it.
-- limits   hash: name of an endpoint or a budget -> its limit in force
-- filed    hash: the same name -> the limit that the file had when it was last published
-- changes  list of records (JSON), newest first
-- health   hash of its window: named, its name when its limit was last published
-- name, limit
-- in_file  its limit in the operator's file, which is in force if none was published yet
-- kept     number of records kept
-- record   of the change, without its time and the old value
-- Returns  the limit that was in force before; if it is the same, nothing is recorded
-- Atomic because the record must say what this replaced, and when.
-- include base
-- include changes
local before = redis.call('HGET', limits, name) or in_file
redis.call('HSETNX', filed, name, in_file)  -- otherwise the first publication would take the file for changed
redis.call('HSETNX', health, 'named', name)  -- the first publication may use another name
redis.call('HSET', limits, name, limit)
if before ~= limit then record_change(now_us(), changes, kept, before, record) end
return before

--- publish_limits(lease, limits, filed, changes; token, kept: number, limited: json)
-- Publishes the limits of the configuration file, except for limits set by hand that still apply.
-- lease    hash with the fencing token
-- limits   hash: name of an endpoint or a budget -> its limit in force
-- filed    hash: the same name -> the limit that the file had when it was last published
-- changes  list of records (JSON), newest first
-- token    the caller's fencing token
-- kept     number of records kept
-- limited  {name, limit, record, health} of each: its limit in the file, the record of a change to it without time and
--          old value, its health, hash: named, its name when it was last published
-- Returns  how many limits were set from the file
--          A renamed endpoint or budget keeps its limit, which belongs to the window. If its window was never published,
--          it takes over the limit of its name, unless that went to another name.
-- Atomic because a limit set by hand must hold exactly until the file's value for it changes.
-- include base
-- include changes
if fenced(lease, token) then return FENCED end
local now, names, formers, stay = now_us(), {}, {}, {}
for _, one in ipairs(limited) do
  one.former = redis.call('HGET', one.health, 'named')
  names[one.name] = true
  if one.former then formers[one.former] = true end
  if one.former == one.name then stay[one.name] = true end
end
for _, one in ipairs(limited) do  -- before anything is written, because two may have exchanged names
  local from = one.former or (not formers[one.name] and one.name)
  if from and (from == one.name or not stay[from]) then
    one.before, one.filed = redis.call('HGET', limits, from), redis.call('HGET', filed, from)
  end
end
local set = 0
for _, one in ipairs(limited) do
  local stands, renamed = one.filed == one.limit, one.former ~= one.name
  local limit = stands and one.before or one.limit
  if renamed or not stands then
    redis.call('HSET', filed, one.name, one.limit)
    redis.call('HSET', limits, one.name, limit)
  end
  if renamed then
    redis.call('HSET', one.health, 'named', one.name)
    if one.former and not names[one.former] then
      redis.call('HDEL', filed, one.former)
      redis.call('HSET', limits, one.former, limit)  -- so users of the former file get no slot under another limit
    end
  end
  if not stands then
    set = set + 1
    if one.before ~= limit then record_change(now, changes, kept, one.before, one.record) end
  end
end
return set
