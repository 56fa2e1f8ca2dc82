-- Counts the slots of windows that were taken within each of several periods, and changes nothing.
-- KEYS[1..] window  list of slots: stamps in microseconds of Redis time, newest first
-- ARGV     for each window: its number of periods, then each in microseconds
-- Returns  for each window the numbers of slots younger than its periods, in one list
-- One script because the numbers must be of one instant, and a window may hold a day of slots: it is halved, not read.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local counts, at = {}, 1
for index = 1, #KEYS do
  local window = KEYS[index]
  local length, periods = redis.call('LLEN', window), tonumber(ARGV[at])
  for period = 1, periods do
    local low, high = 0, length
    while low < high do
      local middle = math.floor((low + high) / 2)
      if redis.call('LINDEX', window, middle) + ARGV[at + period] > now then low = middle + 1 else high = middle end
    end
    counts[#counts + 1] = low
  end
  at = at + 1 + periods
end
return counts
