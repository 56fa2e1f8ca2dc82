-- States anew what an open run carried over, so that its books balance: what was counted of it is lost.
-- KEYS[1]  lease    hash with the fencing token
-- KEYS[2]  current  id of the open run
-- KEYS[3]  tally    hash of its counts
-- KEYS[4..] for each type: its zsets pending, released, inflight, backoff and spent
-- ARGV[1]  token
-- ARGV[2]  run id
-- ARGV[3..] the types, in the order of their keys
-- Returns  1 stated, 0 that run is no longer open
-- Atomic because events are settled meanwhile.
local lease, current, tally = KEYS[1], KEYS[2], KEYS[3]
local token, run_id = ARGV[1], ARGV[2]
-- include fence
if redis.call('GET', current) ~= run_id then return 0 end
for index = 3, #ARGV do
  local type, unsettled = ARGV[index], 0
  for zset = 5 * index - 11, 5 * index - 7 do unsettled = unsettled + redis.call('ZCARD', KEYS[zset]) end
  local told = redis.call('HMGET', tally, 'completed:' .. type, 'failed:' .. type, 'taken:' .. type, 'carried:' .. type)
  for place = 1, 4 do told[place] = tonumber(told[place]) or 0 end
  local missing = unsettled + told[1] + told[2] - told[3] - told[4]
  local carried = math.max(told[4] + missing, 0)  -- else too much was counted as taken, what was settled being lost
  redis.call('HSET', tally, 'carried:' .. type, carried, 'taken:' .. type, told[3] + missing - (carried - told[4]))
end
return 1
