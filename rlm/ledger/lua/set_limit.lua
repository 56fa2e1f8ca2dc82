-- Sets the limit of an endpoint or a budget by hand, and records it.
-- KEYS[1]  limits   hash: name of an endpoint or a budget -> its limit in force
-- KEYS[2]  filed    hash: the same name -> the limit that the file had when it was last published
-- KEYS[3]  changes  list of records (JSON), newest first
-- ARGV[1]  name
-- ARGV[2]  limit
-- ARGV[3]  in_file  its limit in the file of who sets it: what is in force if none was published yet
-- ARGV[4]  kept     number of records kept
-- ARGV[5]  record   of the change, but for when it was made and what was there before
-- Returns  the limit that was in force before; if it is the same nothing is recorded
-- Atomic because the record must say what this replaced, and from when on.
local limits, filed, changes = KEYS[1], KEYS[2], KEYS[3]
local name, limit, in_file, kept, record = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5]
local before = redis.call('HGET', limits, name) or in_file
redis.call('HSETNX', filed, name, in_file)  -- else the first to publish the file would take it for a change of it
redis.call('HSET', limits, name, limit)
if before == limit then return before end
-- include now
-- include record_change
record_change(changes, kept, quoted(before), record)
return before
