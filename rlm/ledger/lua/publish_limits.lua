-- Publishes the limits of the configuration file, except for limits set by hand that still stand.
-- KEYS[1]  lease    hash with the fencing token
-- KEYS[2]  limits   hash: name of an endpoint or a budget -> its limit in force
-- KEYS[3]  filed    hash: the same name -> the limit that the file had when it was last published
-- KEYS[4]  changes  list of records (JSON), newest first
-- ARGV[1]  token
-- ARGV[2]  kept     number of records kept
-- then for each of them: its name, its limit in the file, the record of a change to it but for when and from what
-- Returns  how many limits were set from the file
-- Atomic because a limit set by hand must hold until the file's value for it changes, and no shorter.
local lease, limits, filed, changes = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local token, kept = ARGV[1], tonumber(ARGV[2])
-- include fence
-- include now
-- include record_change
local set = 0
for index = 3, #ARGV, 3 do
  local name, limit, record = ARGV[index], ARGV[index + 1], ARGV[index + 2]
  if redis.call('HGET', filed, name) ~= limit then
    local before = redis.call('HGET', limits, name)
    redis.call('HSET', filed, name, limit)
    redis.call('HSET', limits, name, limit)
    if before ~= limit then record_change(changes, kept, before and quoted(before) or 'null', record) end
    set = set + 1
  end
end
return set
