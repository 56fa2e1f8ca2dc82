--- peek_items
-- Reads the oldest entries of a list, up to a number of bytes, and sets aside the first that is too large to be read.
-- KEYS[1]  list   staged items or dead letters, oldest at its right end
-- KEYS[2]  aside  list of the names of what has been set aside from it, oldest at its right end
-- KEYS[3]  giant  string that takes the next entry that is set aside
-- KEYS[4]  lease  hash with the fencing token
-- ARGV[1]  token
-- ARGV[2]  count    entries at the most
-- ARGV[3]  bytes    stop once so many bytes are read; at least one entry is
-- ARGV[4]  longest  an entry of more bytes is set aside
-- ARGV[5]  name     of KEYS[3], which nobody can guess
-- ARGV[6]  skip     entries, the oldest, that have been read already
-- Returns  the name of the oldest entry set aside or '', then the raw entries, oldest first
-- Atomic because a giant must be in the list or set aside, whatever crashes; and each look at its size copies it.
local list, aside, giant, lease = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local token, name = ARGV[1], ARGV[5]
local count, bytes, longest, skip = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[6])
-- include oldest_entries
local found, large = oldest_entries(list, skip, count, bytes, longest)
if large then
  -- include fence
  redis.call('SET', giant, large)
  redis.call('LPUSH', aside, name)
  redis.call('LSET', list, -skip - #found - 1, name)  -- to take out just this one
  redis.call('LREM', list, -1, name)
  large = nil
  collectgarbage()  -- else the copy stays in memory until some later script
end
table.insert(found, 1, redis.call('LINDEX', aside, -1) or '')
return found

--- oldest_entries
-- Reads the oldest entries of a list, oldest at its right end.
-- Gives  oldest_entries(list, skip, count, bytes, longest)  those behind the `skip` oldest, oldest first, at most `count`,
--        no more after `bytes`, at least one, and none from the first on that has more than `longest`; and that one
local function oldest_entries(list, skip, count, bytes, longest)
  -- A range is found much faster than one element after the other, but all of it is copied: it begins with one.
  local found, size, step = {}, 0, 1
  while #found < count do
    local first = skip + #found
    local batch = redis.call('LRANGE', list, -(first + math.min(step, count - #found)), -(first + 1))
    if #batch == 0 then break end
    for index = #batch, 1, -1 do
      local entry = batch[index]
      if #entry > longest then return found, entry end
      size = size + #entry
      if #found > 0 and size > bytes then return found end
      found[#found + 1] = entry
    end
    step = math.min(2 * step, 4)
  end
  return found
end
