--- set_aside
-- Sets an invalid key aside, or single entries of it, and writes what must replace it.
-- KEYS[1]  lease       hash with the fencing token
-- KEYS[2]  register    hash: key set aside -> its entry, JSON
-- KEYS[3]  key         the invalid key
-- KEYS[4]  quarantine  its new name, unused so far
-- KEYS[5]  place       hash that gets the fields below; unused if there are none
-- ARGV[1]  token
-- ARGV[2]  kind        type of the key if single entries are set aside: 'hash', 'list' or 'set'; empty: the whole key
-- ARGV[3]  note        for the register
-- ARGV[4]  fields      number of field-value pairs for `place` that follow; a value '+N' is N microseconds from now, but
--          never earlier than the present value
-- then these pairs; then the entries: fields of a hash, elements of a list, members of a set
-- Returns  1 set aside, 0 it is gone
-- Atomic because nobody may find the key gone before its safe replacement, for example a rest, is written.
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
