-- Counts on a budget what an endpoint was called before it named that budget, once.
-- KEYS[1]  lease     hash with the fencing token
-- KEYS[2]  budgets   hash: window id of an endpoint -> window id of the budget that its calls are counted on
-- KEYS[3]  window    list of the endpoint's slots: stamps in microseconds of Redis time, newest first
-- KEYS[4]  shared    list of the budget's slots; any other key where the endpoint names none
-- ARGV[1]  token
-- ARGV[2]  endpoint  its window id
-- ARGV[3]  budget    its window id, or empty: the endpoint names none any more
-- ARGV[4]  amount    how many slots the budget's rules look back at most
-- ARGV[5]  keep_ms   how long the budget's slots are kept, at least
-- Returns  how many slots the budget got
-- Atomic because slots are taken meanwhile, and the list of them must stay in order.
local lease, budgets, window, shared = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local token, endpoint, budget, amount, keep_ms = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5]
if redis.call('HGET', lease, 'token') ~= token then return redis.error_reply('FENCED by another conductor') end
if (redis.call('HGET', budgets, endpoint) or '') == budget then return 0 end
if budget == '' then  -- what it was called while it did stays counted
  redis.call('HDEL', budgets, endpoint)
  return 0
end
redis.call('HSET', budgets, endpoint, budget)
local slots = redis.call('LRANGE', shared, 0, amount - 1)
local oldest = #slots == amount and tonumber(slots[amount]) or 0  -- behind it there may be more: the list is in order
local joined = 0
for _, stamp in ipairs(redis.call('LRANGE', window, 0, amount - 1)) do
  if tonumber(stamp) < oldest then break end
  slots[#slots + 1] = stamp
  joined = joined + 1
end
if joined == 0 then return 0 end
table.sort(slots, function(one, other) return tonumber(one) < tonumber(other) end)
redis.call('LTRIM', shared, amount, -1)
for _, stamp in ipairs(slots) do redis.call('LPUSH', shared, stamp) end
redis.call('PEXPIRE', shared, math.max(tonumber(keep_ms), redis.call('PTTL', shared)))
return joined
