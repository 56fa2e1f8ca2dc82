--- peek_items
-- Reads the oldest entries of a list, up to a number of bytes, and sets aside the first that is too large to read.
-- KEYS[1]  list   staged items or dead letters, oldest at its right end
-- KEYS[2]  aside  list of the names of entries set aside from it, oldest at its right end
-- KEYS[3]  giant  string for the next entry that is set aside
-- KEYS[4]  lease  hash with the fencing token
-- ARGV[1]  token
-- ARGV[2]  count    the most entries
-- ARGV[3]  bytes    stop after this many bytes; at least one entry is read
-- ARGV[4]  longest  an entry of more bytes is set aside
-- ARGV[5]  name     of KEYS[3], which nobody can guess
-- ARGV[6]  skip     number of the oldest entries that have been read already
-- Returns  the name of the oldest entry set aside or '', then the raw entries, oldest first
-- Atomic because a giant must, whatever crashes, be in the list or set aside; and each look at its size copies it.
local list, aside, giant, lease = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local token, name = ARGV[1], ARGV[5]
local count, bytes, longest, skip = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[6])
-- include oldest_entries
local found, large = oldest_entries(list, skip, count, bytes, longest)
if large then
  -- include fence
  redis.call('SET', giant, large)
  redis.call('LPUSH', aside, name)
  redis.call('LSET', list, -skip - #found - 1, name)  -- so that exactly this element is removed
  redis.call('LREM', list, -1, name)
  large = nil
  collectgarbage()  -- otherwise the copy stays in memory until a later script
end
table.insert(found, 1, redis.call('LINDEX', aside, -1) or '')
return found

--- oldest_entries
-- Reads the oldest entries of a list, oldest at its right end.
-- Gives  oldest_entries(list, skip, count, bytes, longest, blank, at_once)  those after the `skip` oldest, oldest first, at
--        most `count`, until `bytes` are read, at least one; it ends before the first with more than `longest` bytes,
--        which is also returned. With `blank` such an entry is returned empty in its place, and the others follow.
--        `at_once` is how many it reads at first, 1 if missing
local function oldest_entries(list, skip, count, bytes, longest, blank, at_once)
  -- Reading a range is much faster than single elements, but all of it is copied, so it begins with one element.
  local found, size, step = {}, 0, at_once or 1
  local most = math.max(step, 4)
  while #found < count do
    local passed = skip + #found
    local batch = redis.call('LRANGE', list, -(passed + math.min(step, count - #found)), -(passed + 1))
    if #batch == 0 then break end
    for index = #batch, 1, -1 do
      local entry = batch[index]
      local beyond = #entry > longest
      if beyond and not blank then return found, entry end
      size = size + #entry
      if #found > 0 and size > bytes then return found end
      found[#found + 1] = beyond and '' or entry
    end
    step = math.min(2 * step, most)
  end
  return found
end
