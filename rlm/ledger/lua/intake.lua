--- stage_items
-- Moves what is on the audit list at this moment to the staging list, once a run.
-- KEYS[1]  lease    hash with the fencing token
-- KEYS[2]  run      hash of the open run
-- KEYS[3]  events   the audit list
-- KEYS[4]  staging  the staging list
-- ARGV[1]  token    the caller's fencing token
-- ARGV[2]  run id
-- Returns  how many items are staged now; -1 when earlier items are still staged and must be drained first
-- Atomic because the audit system pushes meanwhile, and a repeated call must not take a second helping.
local lease, run, events, staging = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local token, run_id = ARGV[1], ARGV[2]
-- include fence
-- include fence_run
local staged = redis.call('LLEN', staging)
if redis.call('HGET', run, 'staged') then return staged end
if staged > 0 then return -1 end
if redis.call('EXISTS', events) == 1 then redis.call('RENAME', events, staging) end
redis.call('HSET', run, 'staged', '1')
return redis.call('LLEN', staging)

--- take_chunk
-- Takes the oldest staged items into the ledger: writes their events, dead letters and counts, and trims just them.
-- Then it reads some of those behind them.
-- KEYS[1]  lease     hash with the fencing token
-- KEYS[2]  run       hash of the open run
-- KEYS[3]  tally     hash of the run's counts
-- KEYS[4]  staging   the staging list, oldest at its right end
-- KEYS[5]  failed    the list of dead letters
-- KEYS[6]  types     set of types that have events in the ledger
-- KEYS[7]  sequence  counter of arrivals
-- KEYS[8]  family    of the hashes of events: the key of one is this and its id
-- KEYS[9..] pending zset of each type in the chunk
-- ARGV[1]  token
-- ARGV[2]  skip      what follows is of oldest_entries, for the items that are read then
-- ARGV[3]  count
-- ARGV[4]  bytes
-- ARGV[5]  longest
-- ARGV[6]  run id
-- ARGV[7]  items     number of items in the chunk
-- ARGV[8]  read      these as they were read, the newest first, with a line break between two
-- ARGV[9]  repeated  number of events that are another one's of the chunk, and not among those below
-- ARGV[10] events    MessagePack, which costs a third of an argument for each: the types in the order of their keys, the
--                    number of events of each, and then of each event, type by type: ids, indices of their items from 0,
--                    wallets, what their priorities add to their scores
-- ARGV[11] letters   number of dead letters
-- then the letters
-- Returns  {taken, sizes, behind}, the latter two the items read, as of items_behind; {-1} when staging is no longer as it was read and nothing was written
-- Atomic because a crash, a lost reply or a late second conductor must neither lose nor double an item.
local lease, run, tally, staging, failed, types, sequence, family =
  KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[8]
local token, run_id, items, repeated, letters = ARGV[1], ARGV[6], tonumber(ARGV[7]), tonumber(ARGV[9]), tonumber(ARGV[11])
local names, numbers, ids, indices, wallets, offsets = unpack(cmsgpack.unpack(ARGV[10]))
-- include fence
-- include fence_run
-- include oldest_entries
local raw = redis.call('LRANGE', staging, -items, -1)
if #raw < items or table.concat(raw, '\n', 1, items) ~= ARGV[8] then return {-1} end
local checks = {[failed] = 'LLEN', [tally] = 'HLEN', [types] = 'SCARD', [sequence] = 'STRLEN'}
for index = 9, #KEYS do checks[KEYS[index]] = 'ZCARD' end
for key, command in pairs(checks) do redis.call(command, key) end  -- refused, it is before anything is changed
local events = #ids
local hashes = {unpack(ids)}  -- at its full size at once: growing costs more
for index = 1, events do hashes[index] = family .. ids[index] end
local known, no_event, new = {}, {}, events
if events > 0 and redis.call('EXISTS', unpack(hashes)) > 0 then  -- seldom, and asked all at once
  for index = 1, events do
    local fields = redis.pcall('HLEN', hashes[index])
    no_event[index] = type(fields) == 'table'  -- nobody would have the event if its item were taken for a duplicate
    known[index] = not no_event[index] and fields > 0
    if known[index] then new = new - 1 end
  end
end
if letters > 0 then redis.call('LPUSH', failed, unpack(ARGV, 12)) end
local time = redis.call('TIME')
local taken_at = string.format('%.3f', time[1] + time[2] / 1000000)
local arrival = new > 0 and redis.call('INCRBY', sequence, new) - new
local last, scored = 0, {}
for place, type in ipairs(names) do
  local first, taken = last + 1, 0
  last = last + numbers[place]
  for index = first, last do
    if not known[index] then
      arrival = arrival + 1
      local score = string.format('%d', offsets[index] + arrival)  -- exact below 2^53
      local item = raw[items - indices[index]]
      if no_event[index] then redis.call('DEL', hashes[index]) end
      redis.call('HSET', hashes[index], 'wallet', wallets[index], 'item', item, 'score', score, 'taken_at', taken_at)
      scored[2 * taken + 1], scored[2 * taken + 2] = score, ids[index]
      taken = taken + 1
    end
  end
  if taken > 0 then
    redis.call('ZADD', KEYS[8 + place], unpack(scored, 1, 2 * taken))
    redis.call('SADD', types, type)
    redis.call('HINCRBY', tally, 'taken:' .. type, taken)
  end
end
redis.call('HINCRBY', tally, 'duplicates', repeated + events - new)
redis.call('HINCRBY', tally, 'invalid', letters)
redis.call('LTRIM', staging, 0, -(items + 1))
-- include items_behind
return {new, cmsgpack.pack(sizes), table.concat(behind)}

--- items_behind
-- Reads the items behind those that were taken.
-- They are answered one behind the other, because an answer for each costs its reader more.
-- Uses   ARGV, staging, oldest_entries
-- Gives  behind  the items
--        sizes   their sizes in bytes
local behind = oldest_entries(staging, tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]))
local sizes = {unpack(behind)}  -- at its full size at once
for index = 1, #behind do sizes[index] = #behind[index] end

--- take_giant
-- Makes a dead letter of a staged item that was set aside because it is too large to be read.
-- KEYS[1]  lease   hash with the fencing token
-- KEYS[2]  run     hash of the open run
-- KEYS[3]  tally   hash of the run's counts
-- KEYS[4]  aside   list of the names of what has been set aside
-- KEYS[5]  giant   the item, a string
-- KEYS[6]  failed  the list of dead letters
-- ARGV[1]  token
-- ARGV[2]  run id
-- ARGV[3]  name    of KEYS[5]
-- ARGV[4]  letter  the dead letter, JSON
-- Returns  1 done, 0 somebody else has and nothing was changed
-- Atomic because the item and its letter must never exist both, nor neither.
local lease, run, tally, aside, giant, failed = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local token, run_id, name, letter = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
-- include fence
-- include fence_run
if redis.call('LREM', aside, -1, name) == 0 then return 0 end
redis.call('UNLINK', giant)
redis.call('LPUSH', failed, letter)
redis.call('HINCRBY', tally, 'invalid', 1)
return 1

--- look_items
-- Reads a page of the entries of a list, oldest first, for those who count or look and take none.
-- KEYS[1]  list   the audit list, the staging list or the dead letters; oldest at its right end
-- ARGV[1]  skip   entries, the oldest, that have been read already; if negative, so many of the newest have not
-- ARGV[2]  count  entries at the most
-- ARGV[3]  bytes  stop once so many bytes are read or passed over; at least one entry is
-- ARGV[4]  longest  an entry of more bytes comes back empty: it is none that will be taken, whatever is in it
-- ARGV[5]  at_once  so many are read at first: all of them are copied, however large
-- Returns  the length of the list, then the raw entries
-- One script because the size of a list's element cannot be asked for, and memory must not follow the backlog.
local list = KEYS[1]
local skip, count, bytes, longest = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local length = redis.call('LLEN', list)
if skip < 0 then skip = math.max(0, length + skip) end
-- include oldest_entries
return {length, unpack(oldest_entries(list, skip, count, bytes, longest, true, tonumber(ARGV[5])))}
