--- take_chunk(prefix, staging, events, failed; token, run_id, read, chunk: json)
-- Takes the oldest staged items into the ledger: writes their events, dead letters and counts, and trims just them.
-- staging, events, failed  the staging list, oldest at its right end; the audit list; the list of dead letters
-- token, run_id  the caller's fencing token, and the open run
-- read     the items as they were read, the newest first, with a line break between two
-- chunk    items: their number; letters; events: {id, wallet, offset (what its priority adds to its score), index of its
--          item from 0} of each; giant: the size of a single item that is moved aside instead, 0 for none. Without either,
--          all that is on the audit list is staged, once a run, unless something still is
-- Returns  how many events were taken; -1 if staging is no longer as it was read: nothing was written
-- Atomic because a crash, a lost reply or a late second conductor must neither lose nor double an item.
-- include moving
if fenced(token) or call('HGET', P .. 'run', 'run_id') ~= run_id then return FENCED end
local items, giant = chunk.items, chunk.giant
if items == 0 and giant == 0 then
  if call('EXISTS', staging) == 0 and call('HSETNX', P .. 'run', 'staged', '1') == 1
    and call('EXISTS', events) == 1 then call('RENAME', events, staging) end
  return 0
end
local raw = giant == 0 and call('LRANGE', staging, -items, -1) or {}
if giant > 0 and #(call('LINDEX', staging, -1) or '') ~= giant then return -1 end
if #raw < items or table.concat(raw, '\n') ~= read then return -1 end
call('LLEN', failed)
check(chunk.events)
local new = enter(chunk.events, function(event) return raw[items - event[4]] end)
if #chunk.letters > 0 then call('LPUSH', failed, unpack(chunk.letters)) end
count('duplicates', #chunk.events - new)
count('invalid', #chunk.letters)
if giant > 0 then call('LMOVE', staging, P .. 'aside', 'RIGHT', 'LEFT') else call('LTRIM', staging, 0, -(items + 1)) end
return new

--- read_entries(prefix, list; skip: number, count: number, bytes: number, longest: number)
-- Reads a page of a list, oldest first; its oldest is at its right end.
-- skip     entries, the oldest, that have been read already
-- count    entries at the most
-- bytes    stop once so many bytes are read or passed over; at least one entry is
-- longest  an entry of more bytes is not in `joined`, and its size is negative
-- Returns  {joined, sizes}: entries one behind the other; the size of each
-- One script because the size of a list's element cannot be asked for, and memory must not follow the backlog.
-- include base
local entries, sizes, total, step = {}, {}, 0, 1
while #sizes < count and total <= bytes do
  local passed = skip + #sizes
  local batch = call('LRANGE', list, -(passed + math.min(step, count - #sizes)), -(passed + 1))
  if #batch == 0 then break end
  step = math.min(2 * step, 16)  -- a range is much faster than single elements, but all of it is copied
  for index = #batch, 1, -1 do
    local entry = batch[index]
    total = total + #entry
    if #sizes > 0 and total > bytes then break end
    local fits = #entry <= longest
    if fits then entries[#entries + 1] = entry end
    sizes[#sizes + 1] = fits and #entry or -#entry
  end
end
return named{joined = table.concat(entries), sizes = sizes}
