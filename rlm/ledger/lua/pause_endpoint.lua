-- Pauses an endpoint or a budget for all workers at once, as an operator says, and records it.
-- KEYS[1]  health   hash: paused_until_us, paused_by, paused_at
-- KEYS[2]  changes  list of records (JSON), newest first
-- ARGV[1]  pause_us  how long, microseconds; below zero: until it is resumed
-- ARGV[2]  by        who pauses it
-- ARGV[3]  kept      number of records kept
-- ARGV[4]  record    of the change, but for when it was made and what was there before
-- Returns  1; a pause that was there before is replaced, be it longer or shorter
-- Atomic because the pause and its record must not be told apart by a crash between them.
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
