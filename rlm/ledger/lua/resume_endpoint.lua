-- Ends an operator's pause of an endpoint or a budget, and a rest for what it answered, and records it.
-- KEYS[1]  health   hash: paused_until_us, paused_by, paused_at, rest_until_us, probing, probe_until_us
-- KEYS[2]  changes  list of records (JSON), newest first
-- ARGV[1]  kept     number of records kept
-- ARGV[2]  record   of the change, but for when it was made and what was there before
-- Returns  {paused, rested}, each 1 if that was so and is over now, else 0; if both are 0 nothing is recorded
--          One that was rested is probed by its next call. Rests for any other reason stand: a slot might not be free.
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
