-- Counts the slots of a window that are younger than a moment, by halving: a window may hold a day of slots.
-- Gives  younger(window, than, most)  than: microseconds of Redis time; most: slots counted at the most, or nil
local function younger(window, than, most)
  local low, high = 0, math.min(most or math.huge, redis.call('LLEN', window))
  while low < high do
    local middle = math.floor((low + high) / 2)
    if tonumber(redis.call('LINDEX', window, middle)) > than then low = middle + 1 else high = middle end
  end
  return low
end
