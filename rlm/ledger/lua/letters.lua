--- retry_letters
-- Removes dead letters and, in the same step, sends their events into the next run, or pushes their items back.
-- KEYS[1]  failed    the list of dead letters
-- KEYS[2]  types     set of types that have events in the ledger
-- KEYS[3]  sequence  counter of arrivals
-- then two for each letter: its event, and the zset of its type that is merged into pending when a run opens; for one
-- without an event the audit list, and any key
-- ARGV[1]  width  7, the number of arguments of each letter:
-- the letter as stored, how many entries are older, event id or empty, type, wallet, item, what the priority adds to the
-- order score
-- Returns  of each letter in order: 1 done; 0 it is gone; -1 its event is already unsettled, and nothing was changed. It
-- may be of fewer than given: the first of the others was not found in its place
-- Atomic because there must never be both the letter and the event, or neither.
local failed, types, sequence = KEYS[1], KEYS[2], KEYS[3]
-- include find_letters
local done, taken, chosen, new = {}, {}, {}, 0
for number, place in ipairs(places) do  -- a damaged key must fail before anything is changed
  local event, retried, event_id = KEYS[2 * number + 2], KEYS[2 * number + 3], ARGV[7 * number - 3]
  if not place then
    done[number] = 0
  elseif event_id ~= '' and (chosen[event_id] or redis.call('HEXISTS', event, 'item') == 1) then
    done[number] = -1
  else
    if event_id == '' then
      redis.call('LLEN', event)
    else
      redis.call('ZCARD', retried)
      redis.call('SCARD', types)
      new, chosen[event_id] = new + 1, true
    end
    done[number], taken[#taken + 1] = 1, place
  end
end
local arrival = new > 0 and redis.call('INCRBY', sequence, new) - new
remove(taken)
local time = redis.call('TIME')
local taken_at = string.format('%.3f', time[1] + time[2] / 1000000)
for number, outcome in ipairs(done) do
  local first = 7 * number - 5
  local event, retried = KEYS[2 * number + 2], KEYS[2 * number + 3]
  local event_id, type, wallet, item, offset =
    ARGV[first + 2], ARGV[first + 3], ARGV[first + 4], ARGV[first + 5], ARGV[first + 6]
  if outcome == 1 and event_id == '' then
    -- Another letter of the same item may have pushed it back already; look for it among the newest.
    if not redis.call('LPOS', event, item, 'MAXLEN', #places > 1 and 1000 or 10000) then redis.call('LPUSH', event, item) end
  elseif outcome == 1 then
    arrival = arrival + 1
    local score = string.format('%.0f', offset + arrival)
    redis.call('DEL', event)
    redis.call('HSET', event, 'type', type, 'wallet', wallet, 'item', item, 'score', score, 'taken_at', taken_at)
    redis.call('ZADD', retried, score, event_id)
    redis.call('SADD', types, type)
  end
end
return done

--- drop_letters
-- Removes dead letters, and forgets the event of each if that is settled and failed with this letter.
-- KEYS[1]  failed  the list of dead letters
-- then one for each letter: hash of its event; any other key for a letter without one
-- ARGV[1]  width  3, the number of arguments of each letter:
-- the letter as stored, how many entries are older, event id or empty
-- Returns  of each letter in order: 1 dropped, 0 it is gone. It may be of fewer than given: the first of the others was
-- not found in its place
-- Atomic because an event that was taken again meanwhile must not be forgotten with its old letter.
local failed = KEYS[1]
-- include find_letters
local done, taken = {}, {}
for number, place in ipairs(places) do
  done[number] = place and 1 or 0
  if place then taken[#taken + 1] = place end
end
remove(taken)
for number, outcome in ipairs(done) do
  local event, letter, event_id = KEYS[number + 1], ARGV[3 * number - 1], ARGV[3 * number + 1]
  if outcome == 1 and event_id ~= '' then
    local known = redis.pcall('HMGET', event, 'state', 'letter')  -- a damaged key stays
    if known[1] == 'failed' and (known[2] or redis.sha1hex(letter)) == redis.sha1hex(letter) then
      redis.call('DEL', event)
    end
  end
end
return done

--- find_letters
-- Finds dead letters in their places in the list, because finding one by its value, or removing one, reads the whole list.
-- Uses   failed, ARGV[1] = the number of arguments of each letter, which follow; the first two are letter and older
-- Gives  places         the index of each letter, false if it is gone; it ends before the second to be searched for
--        remove(taken)  removes the letters with these indexes together
local places, moved = {}, 0
for first = 2, #ARGV, tonumber(ARGV[1]) do
  local letter, place = ARGV[first], moved - 1 - ARGV[first + 1]
  if redis.call('LINDEX', failed, place) ~= letter then
    if first > 2 then break end
    local found = redis.call('LPOS', failed, letter, 'RANK', -1)
    moved = found and found - redis.call('LLEN', failed) - place or 1  -- with it gone, the newer ones have moved by one
    place = found and place + moved
  end
  places[#places + 1] = place
end
local function remove(taken)
  for _, place in ipairs(taken) do redis.call('LSET', failed, place, 'removed by RLM') end
  local is_new = -2 * (taken[#taken] or 0) > redis.call('LLEN', failed)  -- begin at the nearer end
  if #taken > 0 then redis.call('LREM', failed, is_new and #taken or -#taken, 'removed by RLM') end
end

--- trim_letters
-- Removes the oldest dead letters, which are already archived; their events stay known as failed.
-- KEYS[1]  lease   hash with the fencing token
-- KEYS[2]  failed  the list of dead letters, newest first
-- ARGV[1]  token
-- ARGV[2..] the SHA-1 of each letter that was read, the oldest first
-- Returns  how many were removed; fewer than given if the oldest letter is another one by now
-- Atomic because a letter may be retried or dropped meanwhile, and no letter that is not archived may be removed.
local lease, failed = KEYS[1], KEYS[2]
local token = ARGV[1]
-- include fence
local removed = 0
for index = 2, #ARGV do
  local letter = redis.call('LINDEX', failed, -1)
  if not letter or redis.sha1hex(letter) ~= ARGV[index] then break end
  redis.call('RPOP', failed)
  removed = removed + 1
end
return removed

--- trim_giant
-- Removes an archived entry of the dead letters that was set aside because it is too large to read.
-- KEYS[1]  lease  hash with the fencing token
-- KEYS[2]  aside  list of the names of entries set aside
-- KEYS[3]  giant  the entry, a string
-- ARGV[1]  token
-- ARGV[2]  name   of KEYS[3]
-- Returns  1 done, 0 it was already removed
-- Atomic because a deposed conductor must not remove what its successor has not archived.
local lease, aside, giant = KEYS[1], KEYS[2], KEYS[3]
local token, name = ARGV[1], ARGV[2]
-- include fence
if redis.call('LREM', aside, -1, name) == 0 then return 0 end
redis.call('UNLINK', giant)
return 1
