-- Reads the oldest staged items, up to a number of bytes, without taking them.
-- KEYS[1]  staging  the staging list, oldest at its right end
-- ARGV[1]  count    items at the most
-- ARGV[2]  bytes    stop once so many bytes are read; at least one item is
-- Returns  the raw items, oldest first
-- One script because the size of a list's element cannot be asked for, and memory must not follow the backlog.
local staging = KEYS[1]
local count, bytes = tonumber(ARGV[1]), tonumber(ARGV[2])
local items, size = {}, 0
for index = 1, count do
  local item = redis.call('LINDEX', staging, -index)
  if not item then break end
  size = size + #item
  if index > 1 and size > bytes then break end
  items[index] = item
end
return items
