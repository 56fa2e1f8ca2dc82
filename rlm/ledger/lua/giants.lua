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
local found, size = {''}, 0
for index = 1, count do
  local entry = redis.call('LINDEX', list, -skip - index)
  if not entry then break end
  if #entry > longest then
    -- include fence
    redis.call('SET', giant, entry)
    redis.call('LPUSH', aside, name)
    redis.call('LSET', list, -skip - index, name)  -- to take out just this one
    redis.call('LREM', list, -1, name)
    entry = nil
    collectgarbage()  -- else the copy stays in memory until some later script
    break
  end
  size = size + #entry
  if index > 1 and size > bytes then break end
  found[index + 1] = entry
end
found[1] = redis.call('LINDEX', aside, -1) or ''
return found
