--- stage_items(lease, run, events, staging; token, run_id)
-- Moves what is on the audit list at this moment to the staging list, once a run.
-- lease    hash with the fencing token
-- run      hash of the open run
-- events   the audit list
-- staging  the staging list
-- token    the caller's fencing token
-- run_id   of the open run
-- Returns  how many items are staged now; -1 when earlier items are still staged and must be drained first
-- Atomic because the audit system pushes meanwhile, and a repeated call must not take a second helping.
-- include base
if fenced(lease, token) or fenced_run(run, run_id) then return FENCED end
local staged = redis.call('LLEN', staging)
if redis.call('HGET', run, 'staged') then return staged end
if staged > 0 then return -1 end
if redis.call('EXISTS', events) == 1 then redis.call('RENAME', events, staging) end
redis.call('HSET', run, 'staged', '1')
return redis.call('LLEN', staging)

--- read_staged(staging; skip: number, count: number, bytes: number, longest: number)
-- Reads the oldest staged items behind those that are read already, up to one that is too large to be read.
-- staging  the staging list, oldest at its right end
-- skip     so many of the oldest have been read already
-- count, bytes, longest  as for oldest_entries
-- Returns  {joined, sizes}, as of joined_entries; and giant, the size of the item before which they end
-- One script because the size of a list's element cannot be asked for, and memory must not follow the backlog.
-- include entries
-- include base
local entries, giant = oldest_entries(staging, skip, count, bytes, longest)
return named(joined_entries(entries, {giant = giant}))

--- take_chunk(lease, run, tally, staging, failed, types, sequence;
---   prefix, token, run_id, items: number, read, repeated: number, chunk: json,
---   skip: number, count: number, bytes: number, longest: number)
-- Takes the oldest staged items into the ledger: writes their events, dead letters and counts, and trims just them.
-- Then it reads some of those behind them.
-- lease     hash with the fencing token
-- run       hash of the open run
-- tally     hash of the run's counts
-- staging   the staging list, oldest at its right end
-- failed    the list of dead letters
-- types     set of types that have events in the ledger
-- sequence  counter of arrivals
-- prefix    of all keys
-- token     the caller's fencing token
-- run_id    of the open run
-- items     number of items in the chunk
-- read      these as they were read, the newest first, with a line break between two
-- repeated  number of events that are another one's of the chunk, and not in it
-- chunk     letters; types, ready, numbers: name, zset and number of events of each type; and of each event, type by
--           type: ids, keys, of (index of its item from 0), wallets, offsets (what its priority adds to its score)
-- skip, count, bytes, longest  what to read then, as of read_staged
-- Returns   {taken, joined, sizes}, the latter two as of joined_entries; {taken = -1} when staging is no longer as it was
--           read and nothing was written
-- Atomic because a crash, a lost reply or a late second conductor must neither lose nor double an item.
-- include base
-- include entries
-- include endpoints
if fenced(lease, token) or fenced_run(run, run_id) then return FENCED end
local raw = redis.call('LRANGE', staging, -items, -1)
if #raw < items or table.concat(raw, '\n', 1, items) ~= read then return named{taken = -1} end
local checks = {[failed] = 'LLEN', [tally] = 'HLEN', [types] = 'SCARD', [sequence] = 'STRLEN'}
for _, ready in ipairs(chunk.ready) do checks[ready] = 'ZCARD' end
for key, command in pairs(checks) do redis.call(command, key) end  -- refused, it is before anything is changed
local ids, keys = chunk.ids, chunk.keys
local known, no_event, new = {}, {}, #ids
if #ids > 0 and redis.call('EXISTS', unpack(keys)) > 0 then  -- seldom, and asked all at once
  for index, key in ipairs(keys) do
    local fields = redis.pcall('HLEN', key)
    no_event[index] = type(fields) == 'table'  -- nobody would have the event if its item were taken for a duplicate
    known[index] = not no_event[index] and fields > 0
    if known[index] then new = new - 1 end
  end
end
if #chunk.letters > 0 then redis.call('LPUSH', failed, unpack(chunk.letters)) end
local time = redis.call('TIME')
local taken_at = string.format('%.3f', time[1] + time[2] / 1000000)
local arrival = new > 0 and redis.call('INCRBY', sequence, new) - new
local last, scored, wakes = 0, {}, false
for place, name in ipairs(chunk.types) do
  local first, taken = last + 1, 0
  last = last + chunk.numbers[place]
  for index = first, last do
    if not known[index] then
      arrival = arrival + 1
      local score = string.format('%d', chunk.offsets[index] + arrival)  -- exact below 2^53
      if no_event[index] then redis.call('DEL', keys[index]) end
      redis.call('HSET', keys[index], 'wallet', chunk.wallets[index], 'item', raw[items - chunk.of[index]], 'score', score,
        'taken_at', taken_at)
      scored[2 * taken + 1], scored[2 * taken + 2] = score, ids[index]
      taken = taken + 1
    end
  end
  if taken > 0 then
    local had_none = redis.call('EXISTS', chunk.ready[place]) == 0
    redis.call('ZADD', chunk.ready[place], unpack(scored, 1, 2 * taken))
    if had_none then
      index(name)
      wakes = running
    end
    redis.call('SADD', types, name)
    redis.call('HINCRBY', tally, 'taken:' .. name, taken)
  end
end
redis.call('HINCRBY', tally, 'duplicates', repeated + #ids - new)
redis.call('HINCRBY', tally, 'invalid', #chunk.letters)
redis.call('LTRIM', staging, 0, -(items + 1))
if wakes then redis.call('PUBLISH', prefix .. 'wake:workers', 'ready') end
return named(joined_entries(oldest_entries(staging, skip, count, bytes, longest), {taken = new}))

--- move_giant(lease, run, tally, staging, aside, failed; token, run_id, size: number, letter)
-- Moves the oldest staged item aside, which is too large to be read, and makes a dead letter of it.
-- lease    hash with the fencing token
-- run      hash of the open run
-- tally    hash of the run's counts
-- staging  the staging list, oldest at its right end
-- aside    the list of what is too large to be read
-- failed   the list of dead letters
-- token    the caller's fencing token
-- run_id   of the open run
-- size     of the item
-- letter   the dead letter, JSON
-- Returns  1 done, 0 the oldest staged item is another one by now, and nothing was changed
-- Atomic because an item must never be without its letter, nor in two lists.
-- include base
if fenced(lease, token) or fenced_run(run, run_id) then return FENCED end
if #(redis.call('LINDEX', staging, -1) or '') ~= size then return 0 end
redis.call('LLEN', failed)  -- fails, if it must, before anything is changed
redis.call('LMOVE', staging, aside, 'RIGHT', 'LEFT')
redis.call('LPUSH', failed, letter)
redis.call('HINCRBY', tally, 'invalid', 1)
collectgarbage()  -- otherwise the copy stays in memory until a later script
return 1

--- look_items(list; skip: number, count: number, bytes: number, longest: number, at_once: number)
-- Reads a page of the entries of a list, oldest first, for those who count or look and take none.
-- list     the audit list, the staging list or the dead letters; oldest at its right end
-- skip     entries, the oldest, that have been read already; if negative, so many of the newest have not
-- count    entries at the most
-- bytes    stop once so many bytes are read or passed over; at least one entry is
-- longest  an entry of more bytes comes back empty: it is none that will be taken, whatever is in it
-- at_once  so many are read at first: all of them are copied, however large
-- Returns  {length, joined, sizes}: the length of the list, and the rest as of joined_entries
-- One script because the size of a list's element cannot be asked for, and memory must not follow the backlog.
-- include entries
-- include base
local length = redis.call('LLEN', list)
if skip < 0 then skip = math.max(0, length + skip) end
return named(joined_entries(oldest_entries(list, skip, count, bytes, longest, true, at_once), {length = length}))

--- entries
-- Reads the oldest entries of a list, oldest at its right end.
-- Gives  oldest_entries(list, skip, count, bytes, longest, blank, at_once)  those after the `skip` oldest, oldest first, at
--          most `count`, until `bytes` are read, at least one; it ends before the first with more than `longest` bytes,
--          whose size is also returned. With `blank` such an entry is returned empty in its place, and the others follow.
--          `at_once` is how many it reads at first, 1 if missing
--        joined_entries(entries, fields)  the fields of a reply, with them: joined, one behind the other, and their sizes
local function oldest_entries(list, skip, count, bytes, longest, blank, at_once)
  -- Reading a range is much faster than single elements, but all of it is copied, so it begins with one element.
  local entries, size, step = {}, 0, at_once or 1
  local most = math.max(step, 4)
  while #entries < count do
    local passed = skip + #entries
    local batch = redis.call('LRANGE', list, -(passed + math.min(step, count - #entries)), -(passed + 1))
    if #batch == 0 then break end
    for index = #batch, 1, -1 do
      local entry = batch[index]
      local beyond = #entry > longest
      if beyond and not blank then return entries, #entry end
      size = size + #entry
      if #entries > 0 and size > bytes then return entries end
      entries[#entries + 1] = beyond and '' or entry
    end
    step = math.min(2 * step, most)
  end
  return entries
end
local function joined_entries(entries, fields)
  local sizes = {unpack(entries)}  -- at its full size at once
  for index, entry in ipairs(entries) do sizes[index] = #entry end
  fields.joined, fields.sizes = table.concat(entries), sizes
  return fields
end
