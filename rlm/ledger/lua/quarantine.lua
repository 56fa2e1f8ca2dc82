--- set_aside
-- Sets a key aside that holds what it cannot, or single entries of it, and writes what has to stand in its place.
-- KEYS[1]  lease       hash with the fencing token
-- KEYS[2]  register    hash: key set aside -> what it was, JSON
-- KEYS[3]  key         what holds what it cannot
-- KEYS[4]  quarantine  the new name of that key, which nothing has
-- KEYS[5]  place       hash that gets the fields below; unused without any
-- ARGV[1]  token
-- ARGV[2]  kind        of the key, if single entries are set aside, 'hash', 'list' or 'set'; empty: all of it
-- ARGV[3]  note        for the register
-- ARGV[4]  fields      number of fields and values that follow, for `place`; a value '+N' is N microseconds from now,
--          and never earlier than what stands there
-- then those; then the entries: fields of a hash, elements of a list, members of a set
-- Returns  1 set aside, 0 it is not there any more
-- Atomic because nobody may find the key gone before what fails closed stands in its place, a rest for one.
local lease, register, key, quarantine, place = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local token, kind, note, fields = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
-- include fence
if redis.call('EXISTS', key) == 0 then return 0 end
if kind == '' then redis.call('RENAME', key, quarantine) end
for index = 5 + 2 * fields, #ARGV do
  local entry = ARGV[index]
  if kind == 'hash' then
    redis.call('HSET', quarantine, entry, redis.call('HGET', key, entry) or '')
    redis.call('HDEL', key, entry)
  elseif kind == 'set' then
    redis.call('SMOVE', key, quarantine, entry)
  elseif kind == 'list' then
    redis.call('LREM', key, 0, entry)
    redis.call('RPUSH', quarantine, entry)
  end
end
-- include now
for index = 5, 4 + 2 * fields, 2 do
  local field, value = ARGV[index], ARGV[index + 1]
  if string.sub(value, 1, 1) == '+' then
    local from_now = now + tonumber(value)
    value = string.format('%.0f', math.max(from_now, tonumber(redis.call('HGET', place, field) or 0) or 0))
  end
  redis.call('HSET', place, field, value)
end
redis.call('HSET', register, quarantine, note)
return 1

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
-- Gives  oldest_entries(list, skip, count, bytes, longest, blank)  those behind the `skip` oldest, oldest first, at most
--        `count`, no more after `bytes`, at least one, and none from the first on that has more than `longest`; and that
--        one. With `blank` such a one comes back empty in its place, and the others follow
local function oldest_entries(list, skip, count, bytes, longest, blank)
  -- A range is found much faster than one element after the other, but all of it is copied: it begins with one.
  local found, size, step = {}, 0, 1
  while #found < count do
    local first = skip + #found
    local batch = redis.call('LRANGE', list, -(first + math.min(step, count - #found)), -(first + 1))
    if #batch == 0 then break end
    for index = #batch, 1, -1 do
      local entry = batch[index]
      local beyond = #entry > longest
      if beyond and not blank then return found, entry end
      size = size + #entry
      if #found > 0 and size > bytes then return found end
      found[#found + 1] = beyond and '' or entry
    end
    step = math.min(2 * step, 4)
  end
  return found
end
