--- pause_endpoint
-- Pauses an endpoint or a budget for all workers at once, as an operator ordered, and records it.
-- KEYS[1]  health   hash: paused_until_us, paused_by, paused_at
-- KEYS[2]  changes  list of records (JSON), newest first
-- ARGV[1]  pause_us  how long, microseconds; negative: until it is resumed
-- ARGV[2]  by        who pauses it
-- ARGV[3]  kept      number of records kept
-- ARGV[4]  record    of the change, without its time and the old value
-- Returns  1; an earlier pause is replaced, even by a shorter one
-- Atomic because a crash must not leave the pause without its record.
local health, changes = KEYS[1], KEYS[2]
local pause_us, by, kept, record = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3]), ARGV[4]
-- include now
-- include record_change
local paused = tonumber(redis.call('HGET', health, 'paused_until_us') or 0) > now
local until_us = pause_us < 0 and '253402300799000000' or string.format('%.0f', now + pause_us)  -- the end of year 9999
local at = string.format('%d.%06d', time[1], time[2])
redis.call('HSET', health, 'paused_until_us', until_us, 'paused_by', by, 'paused_at', at)
record_change(changes, kept, paused and quoted('paused') or 'null', record)
return 1

--- resume_endpoint
-- Ends an operator's pause of an endpoint or a budget, and a rest because of its answers, and records it.
-- KEYS[1]  health   hash: paused_until_us, paused_by, paused_at, rest_until_us, probing, probe_until_us
-- KEYS[2]  changes  list of records (JSON), newest first
-- ARGV[1]  kept     number of records kept
-- ARGV[2]  record   of the change, without its time and the old value
-- Returns  {paused, rested}, each 1 if that was so and has ended now, else 0; if both are 0 nothing is recorded
--          After a rest, its next call is a probe. Rests for other reasons continue, because a slot might not be free.
-- Atomic because a rest may begin at the same moment, and the record must say what was ended.
local health, changes = KEYS[1], KEYS[2]
local kept, record = tonumber(ARGV[1]), ARGV[2]
-- include now
-- include record_change
local told = redis.call('HMGET', health, 'paused_until_us', 'rest_until_us', 'probing')
local paused = tonumber(told[1] or 0) > now
local rested = tonumber(told[2] or 0) > now and told[3]
redis.call('HDEL', health, 'paused_until_us', 'paused_by', 'paused_at')
if rested then redis.call('HDEL', health, 'rest_until_us', 'probe_until_us') end
if not (paused or rested) then return {0, 0} end
local was = paused and (rested and 'paused, open' or 'paused') or 'open'
record_change(changes, kept, quoted(was), record)
return {paused and 1 or 0, rested and 1 or 0}

--- set_limit
-- Sets the limit of an endpoint or a budget by hand, and records it.
-- KEYS[1]  limits   hash: name of an endpoint or a budget -> its limit in force
-- KEYS[2]  filed    hash: the same name -> the limit that the file had when it was last published
-- KEYS[3]  changes  list of records (JSON), newest first
-- KEYS[4]  health   hash: named, its name when its limit was last published
-- ARGV[1]  name
-- ARGV[2]  limit
-- ARGV[3]  in_file  its limit in the operator's file, which is in force if none was published yet
-- ARGV[4]  kept     number of records kept
-- ARGV[5]  record   of the change, without its time and the old value
-- Returns  the limit that was in force before; if it is the same, nothing is recorded
-- Atomic because the record must say what this replaced, and when.
local limits, filed, changes, health = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local name, limit, in_file, kept, record = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5]
local before = redis.call('HGET', limits, name) or in_file
redis.call('HSETNX', filed, name, in_file)  -- otherwise the first publication would take the file for changed
redis.call('HSETNX', health, 'named', name)  -- the first publication may use another name
redis.call('HSET', limits, name, limit)
if before == limit then return before end
-- include now
-- include record_change
record_change(changes, kept, quoted(before), record)
return before

--- publish_limits
-- Publishes the limits of the configuration file, except for limits set by hand that still apply.
-- KEYS[1]  lease    hash with the fencing token
-- KEYS[2]  limits   hash: name of an endpoint or a budget -> its limit in force
-- KEYS[3]  filed    hash: the same name -> the limit that the file had when it was last published
-- KEYS[4]  changes  list of records (JSON), newest first
-- then     the health of each of them, hash: named, its name when it was last published
-- ARGV[1]  token
-- ARGV[2]  kept     number of records kept
-- then for each of them: its name, its limit in the file, the record of a change to it without time and old value
-- Returns  how many limits were set from the file
--          A renamed endpoint or budget keeps its limit, which belongs to the window. If its window was never published,
--          it takes over the limit of its name, unless that went to another name.
-- Atomic because a limit set by hand must hold exactly until the file's value for it changes.
local lease, limits, filed, changes = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local token, kept = ARGV[1], tonumber(ARGV[2])
-- include fence
-- include now
-- include record_change
local all, names, formers, stay = {}, {}, {}, {}
for index = 3, #ARGV, 3 do
  local name, health = ARGV[index], KEYS[4 + index / 3]
  local former = redis.call('HGET', health, 'named')
  all[#all + 1] = {name = name, limit = ARGV[index + 1], record = ARGV[index + 2], health = health, former = former}
  names[name] = true
  if former then formers[former] = true end
  if former == name then stay[name] = true end
end
for _, one in ipairs(all) do  -- before anything is written, because two may have exchanged names
  local from = one.former or (not formers[one.name] and one.name)
  if from and (from == one.name or not stay[from]) then
    one.before, one.filed = redis.call('HGET', limits, from), redis.call('HGET', filed, from)
  end
end
local set = 0
for _, one in ipairs(all) do
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
    if one.before ~= limit then
      record_change(changes, kept, one.before and quoted(one.before) or 'null', one.record)
    end
  end
end
return set
