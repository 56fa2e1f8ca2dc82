-- Counts on a budget what an endpoint was called while it did not name that budget, once.
-- KEYS[1]  lease     hash with the fencing token
-- KEYS[2]  budgets   hash: window id of an endpoint -> window id of the budget that its calls are counted on;
--          both of them -> when that ended, microseconds of Redis time
-- KEYS[3]  window    list of the endpoint's slots: stamps in microseconds of Redis time, newest first
-- KEYS[4]  health    hash of the endpoint: kept_us
-- KEYS[5]  shared    list of the budget's slots; any other key if the endpoint names none
-- KEYS[6]  account   hash of the budget's health: kept_us; likewise
-- ARGV[1]  token
-- ARGV[2]  endpoint  its window id
-- ARGV[3]  budget    its window id, or empty: the endpoint names none any more
-- ARGV[4]  keep_ms   how long the budget's slots are kept, at least
-- Returns  how many slots the budget got
-- Atomic because slots are taken meanwhile, and the list of them must stay in order.
local lease, budgets, window, health, shared, account = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local token, endpoint, budget, keep_ms = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
-- include fence
local named = redis.call('HGET', budgets, endpoint) or ''
if named == budget then return 0 end
-- include now
if named ~= '' then  -- what it was called while it named that one stays counted there
  redis.call('HSET', budgets, endpoint .. ' ' .. named, string.format('%.0f', now))
  redis.call('HDEL', budgets, endpoint)
end
if budget == '' then return 0 end
redis.call('HSET', budgets, endpoint, budget)
local left = tonumber(redis.call('HGET', budgets, endpoint .. ' ' .. budget) or 0)
local kept = tonumber(redis.call('HGET', health, 'kept_us') or 0)
if left + kept < now and kept > 0 then  -- of calls before what is kept the budget knows nothing: longer rules rest it
  kept = math.min(kept, tonumber(redis.call('HGET', account, 'kept_us') or kept))
  redis.call('HSET', account, 'kept_us', string.format('%.0f', kept))
end
local counted, slots, at, joined = redis.call('LRANGE', shared, 0, -1), {}, 1, 0
for _, stamp in ipairs(redis.call('LRANGE', window, 0, -1)) do
  while counted[at] and tonumber(counted[at]) > tonumber(stamp) do
    slots[#slots + 1] = counted[at]
    at = at + 1
  end
  if counted[at] == stamp then at = at + 1 else joined = joined + 1 end  -- the same: of when it named the budget before
  slots[#slots + 1] = stamp
end
if joined == 0 then return 0 end
for rest = at, #counted do slots[#slots + 1] = counted[rest] end
keep_ms = math.max(keep_ms, redis.call('PTTL', shared))
redis.call('DEL', shared)
for first = 1, #slots, 1000 do redis.call('RPUSH', shared, unpack(slots, first, math.min(first + 999, #slots))) end
redis.call('PEXPIRE', shared, keep_ms)
return joined
