-- Reads a page of the items that wait in a list, oldest first, for whoever counts them and takes none.
-- KEYS[1]  list   the audit list or the staging list, oldest at its right end
-- ARGV[1]  skip   items, the oldest, that have been read already
-- ARGV[2]  count  items at the most
-- ARGV[3]  bytes  stop once so many bytes are read; at least one item is
-- ARGV[4]  longest  an item of more bytes comes back empty: it is none that will be taken, whatever is in it
-- Returns  the raw items
-- One script because the size of a list's element cannot be asked for, and memory must not follow the backlog.
local list = KEYS[1]
local skip, count, bytes, longest = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local step = 10  -- a range is found much faster than one element after the other, but all of it is copied
local items, size = {}, 0
while #items < count do
  local first = skip + #items
  local batch = redis.call('LRANGE', list, -(first + math.min(step, count - #items)), -(first + 1))
  if #batch == 0 then break end
  for index = #batch, 1, -1 do
    local item = #batch[index] > longest and '' or batch[index]
    size = size + #item
    if #items > 0 and size > bytes then return items end
    items[#items + 1] = item
  end
end
return items
