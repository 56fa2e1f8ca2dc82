-- Counts the slots of windows that were taken within each of several periods, and changes nothing.
-- KEYS[1..] window  list of slots: stamps in microseconds of Redis time, newest first
-- ARGV     for each window: its number of periods, then each in microseconds
-- Returns  for each window the numbers of slots younger than its periods, in one list
-- One script because the numbers must be of one instant, and a window may hold a day of slots: it is halved, not read.
-- include now
-- include younger
local counts, at = {}, 1
for index = 1, #KEYS do
  local window = KEYS[index]
  local periods = tonumber(ARGV[at])
  for period = 1, periods do counts[#counts + 1] = younger(window, now - ARGV[at + period]) end
  at = at + 1 + periods
end
return counts
