--- retry_letters(failed, types, sequence, audit, tally; prefix, letters: json)
-- Removes dead letters and, in the same step, makes their events ready, or pushes their items back.
-- failed    the list of dead letters
-- types     set of types that have events in the ledger
-- sequence  counter of arrivals
-- audit     the audit list
-- tally     hash of the counts of the open run or, between runs, of the next one
-- prefix    of all keys
-- letters   {letter, older, item, wallet, events, rest} of each: the letter as stored; how many entries are older; rest: the
--           letter of the item's other types, which replaces it, or empty; events: {id, key, ready, type, offset} of each,
--           where ready is the zset of its type, and offset what its priority adds to its order score; without events the
--           item is pushed back
-- Returns   of each letter in order: 1 done; 0 it is gone; -1 its events are already unsettled, and nothing was changed. It
--           may be of fewer than given: the first of the others was not found in its place
-- Atomic because there must never be both the letter and its events, or neither.
-- include base
-- include found_letters
-- include endpoints
local places = find_letters(failed, letters)
local done, taken, chosen, new = {}, {}, {}, {}
for number, place in ipairs(places) do  -- a damaged key must fail before anything is changed
  local letter, fresh = letters[number], {}
  for _, event in ipairs(letter.events) do
    if place and not chosen[event.id] and redis.call('HEXISTS', event.key, 'item') == 0 then
      redis.call('ZCARD', event.ready)
      fresh[#fresh + 1] = event
    end
  end
  if not place then
    done[number] = 0
  elseif #letter.events > 0 and #fresh == 0 then
    done[number] = -1
  else
    done[number] = 1
    for _, event in ipairs(fresh) do chosen[event.id], new[#new + 1] = true, {event, letter} end
    if letter.rest == '' then taken[#taken + 1] = place end
  end
end
redis.call('SCARD', types)
redis.call('HLEN', tally)
redis.call('LLEN', audit)
redis.call('STRLEN', sequence)
make_room(failed)
local arrival = #new > 0 and redis.call('INCRBY', sequence, #new) - #new
for number, place in ipairs(places) do
  if done[number] == 1 and letters[number].rest ~= '' then redis.call('LSET', failed, place, letters[number].rest) end
end
remove_letters(failed, taken)
local taken_at, wakes = string.format('%.3f', now_us() / 1000000), false
for _, one in ipairs(new) do
  local event, letter = one[1], one[2]
  arrival = arrival + 1
  local score = string.format('%.0f', event.offset + arrival)
  redis.call('DEL', event.key)
  redis.call('HSET', event.key, 'type', event.type, 'wallet', letter.wallet, 'item', letter.item, 'score', score,
    'taken_at', taken_at)
  local had_none = redis.call('EXISTS', event.ready) == 0
  redis.call('ZADD', event.ready, score, event.id)
  redis.call('SADD', types, event.type)
  redis.call('HINCRBY', tally, 'taken:' .. event.type, 1)
  if had_none then
    index(event.type)
    wakes = running
  end
end
for number, outcome in ipairs(done) do
  if outcome == 1 and #letters[number].events == 0 then redis.call('LPUSH', audit, letters[number].item) end
end
if wakes then redis.call('PUBLISH', prefix .. 'wake:workers', 'ready') end
return done

--- drop_letters(failed; letters: json)
-- Removes dead letters, and forgets the event of each if that is settled and failed with this letter.
-- failed   the list of dead letters
-- letters  {letter, older, event} of each: the letter as stored; how many entries are older; the key of its event, or empty
-- Returns  of each letter in order: 1 dropped, 0 it is gone. It may be of fewer than given: the first of the others was
--          not found in its place
-- Atomic because an event that was taken again meanwhile must not be forgotten with its old letter.
-- include found_letters
local places = find_letters(failed, letters)
local done, taken = {}, {}
for number, place in ipairs(places) do
  done[number] = place and 1 or 0
  if place then taken[#taken + 1] = place end
end
make_room(failed)
remove_letters(failed, taken)
for number, outcome in ipairs(done) do
  local one = letters[number]
  if outcome == 1 and one.event ~= '' then
    local state = redis.pcall('HMGET', one.event, 'state', 'letter')  -- a damaged key stays
    if state[1] == 'failed' and (state[2] or redis.sha1hex(one.letter)) == redis.sha1hex(one.letter) then
      redis.call('DEL', one.event)
    end
  end
end
return done

--- found_letters
-- Finds dead letters in their places in the list, because finding one by its value, or removing one, reads the whole list.
-- Gives  find_letters(failed, letters)   the index of each letter, false if it is gone; it ends before the second to be
--                                        searched for
--        remove_letters(failed, places)  removes the letters with these indexes together
--        make_room(list)                 allows a script to write on a full Redis, because it frees more than it takes:
--                                        Redis refuses writes for want of memory only up to the first that it allows
local REMOVED = 'removed by RLM'
local function find_letters(failed, letters)
  local places, moved = {}, 0
  for number, one in ipairs(letters) do
    local place = moved - 1 - one.older
    if redis.call('LINDEX', failed, place) ~= one.letter then
      if number > 1 then break end
      local index = redis.call('LPOS', failed, one.letter, 'RANK', -1)
      moved = index and index - redis.call('LLEN', failed) - place or 1  -- with it gone, the newer ones have moved by one
      place = index and place + moved
    end
    places[#places + 1] = place
  end
  return places
end
local function remove_letters(failed, places)
  for _, place in ipairs(places) do redis.call('LSET', failed, place, REMOVED) end
  local is_new = -2 * (places[#places] or 0) > redis.call('LLEN', failed)  -- begin at the nearer end
  if #places > 0 then redis.call('LREM', failed, is_new and #places or -#places, REMOVED) end
end
local function make_room(list)
  redis.call('LTRIM', list, 0, -1)
end

--- trim_letters(lease, failed, aside; token, digests: json)
-- Removes the oldest dead letters, which are already archived; their events stay known as failed.
-- lease    hash with the fencing token
-- failed   the list of dead letters, newest first
-- aside    the list of what is too large to be read
-- token    the caller's fencing token
-- digests  the SHA-1 of each letter that was read, the oldest first; '' of one that is too large, and is moved aside
-- Returns  how many were removed; fewer than given if the oldest letter is another one by now
-- Atomic because a letter may be retried or dropped meanwhile, and no letter that is not archived may be removed.
-- include base
if fenced(lease, token) then return FENCED end
for number, digest in ipairs(digests) do
  local letter = redis.call('LINDEX', failed, -1)
  if not letter or (digest ~= '' and redis.sha1hex(letter) ~= digest) then return number - 1 end
  if digest == '' then redis.call('LMOVE', failed, aside, 'RIGHT', 'LEFT') else redis.call('RPOP', failed) end
end
return #digests
