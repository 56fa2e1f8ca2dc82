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
