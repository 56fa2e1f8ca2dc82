-- Reads a page of the entries of a list, oldest first, for those who count or look and take none.
-- KEYS[1]  list   the audit list, the staging list or the dead letters; oldest at its right end
-- ARGV[1]  skip   entries, the oldest, that have been read already
-- ARGV[2]  count  entries at the most
-- ARGV[3]  bytes  stop once so many bytes are read or passed over; at least one entry is
-- ARGV[4]  longest  an entry of more bytes comes back empty: it is none that will be taken, whatever is in it
-- Returns  the raw entries
-- One script because the size of a list's element cannot be asked for, and memory must not follow the backlog.
local list = KEYS[1]
local skip, count, bytes, longest = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
-- A range is found much faster than one element after the other, but all of it is copied: it begins with one.
local step, longest_step = 1, 4
local found, size = {}, 0
while #found < count do
  local first = skip + #found
  local batch = redis.call('LRANGE', list, -(first + math.min(step, count - #found)), -(first + 1))
  if #batch == 0 then break end
  for index = #batch, 1, -1 do
    local entry = batch[index]
    size = size + #entry
    if #found > 0 and size > bytes then return found end
    found[#found + 1] = #entry > longest and '' or entry
  end
  step = math.min(2 * step, longest_step)
end
return found
