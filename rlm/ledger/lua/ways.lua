--- fail_way
-- Counts a call of a host that an endpoint did not answer: against the host's way there, if others' calls there succeed.
-- After some in a row the way is shut, and probed by one call at a time after each rest, which doubles. It opens again
-- if every host that makes calls, or would, fails at that endpoint, because then it is the endpoint's trouble.
-- KEYS[1]  ways   hash: `HOST WINDOW` -> the way of a host to an endpoint as `write_way` writes it; `HOST` -> since when it
--          is in trouble, 'cut' or 'part', and when a host that is cut off may try another call
-- KEYS[2]  well   zset of the endpoint: hosts, by when a call of theirs was last answered
-- KEYS[3]  hosts  zset: hosts, by when a call of theirs was last answered anywhere
-- KEYS[4]  epoch  hash: ways, 1 while there is an entry
-- ARGV[1]  host
-- ARGV[2]  window     id of the endpoint's window
-- ARGV[3]  here       1: the host is the cause whatever others' calls do, and one failure suffices; else 0
-- ARGV[4]  failing    number of failures in a row from which on the way is shut
-- ARGV[5]  rest_us    the first rest, microseconds
-- ARGV[6]  longest_us the longest rest
-- ARGV[7]  recent_us  for how long an answer to another host shows that the endpoint can be reached
-- ARGV[8]  least      number of shut ways, with no answer from anywhere since, from which on the host is cut off
-- ARGV[9]  counts     as how many failures it counts
-- ARGV[10] why        in a few words
-- ARGV[11..] the hosts that make calls, or would
-- Returns  {of_host, rest_us, state, told}: of_host is 1 if it is the host's trouble, 0 if the endpoint's; rest_us: how long
--          the way is shut from now; state of the host: '', 'part' or 'cut'; told: 1 if it was well before, 2 if worse now
-- Atomic because many calls of a host fail at once, and only together do they show whose trouble it is.
local ways, well, hosts, epoch = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local host, window, here, failing = ARGV[1], ARGV[2], ARGV[3] == '1', tonumber(ARGV[4])
local first_us, longest_us, recent_us, least = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
-- include now
-- include ways
local way = read_way(ways, host, window) or {failures = 0, since = now, till = 0, rest = 0, probing = 0}
local function answered(one, from)  -- when its call was last answered, if that was not before `from`
  local at = tonumber(redis.call('ZSCORE', well, one) or 0)
  return at >= from and at <= now and at or nil
end
if answered(host, way.since + 1) then way = {failures = 0, since = now, till = 0, rest = 0, probing = 0} end
local function fails(one)  -- whether another host's calls there have failed since its last answer
  local theirs = read_way(ways, one, window)
  return theirs and not answered(one, theirs.since + 1)
end
local others = false
for _, one in ipairs(redis.call('ZREVRANGEBYSCORE', well, now, now - recent_us)) do
  others = others or (one ~= host and not fails(one))
end
local of_host = here or others
local state = redis.call('HGET', ways, host) or ''
if way.rest > 0 and way.probing == 0 and is_shut(way) then  -- the call was sent before the rest, so it adds nothing
  return {of_host and 1 or 0, math.ceil(way.till - now), string.match(state, '%a+') or '', 0}
end
way.failures, way.probing, way.why = way.failures + tonumber(ARGV[9]), 0, ARGV[10]
local enough = here or way.failures >= failing or string.find(state, 'cut', 1, true)
if of_host and enough then
  way.rest = way.rest > 0 and math.min(longest_us, way.rest * 2) or first_us
end
local opened = way.rest > 0 and not of_host
for place = 11, #ARGV do opened = opened and (ARGV[place] == host or fails(ARGV[place])) end
if opened then way.rest, way.till = 0, 0 end
if way.rest > 0 then way.till = now + way.rest end
write_way(ways, epoch, host, window, way)
if opened then
  local left = 0
  for _, one in pairs(ways_of(ways, host)) do left = left + (one.rest > 0 and 1 or 0) end
  if left < least then state = string.gsub(state, 'cut', 'part') end
  if left == 0 then redis.call('HDEL', ways, host) elseif state ~= '' then redis.call('HSET', ways, host, state) end
end
if not (of_host and enough) then return {of_host and 1 or 0, 0, string.match(state, '%a+') or '', 0} end
local shut, last = 0, tonumber(redis.call('ZSCORE', hosts, host) or 0)
for _, one in pairs(ways_of(ways, host)) do
  if one.rest > 0 and one.since >= last then shut = shut + 1 end
end
local found = shut >= least and 'cut' or 'part'
local since, known = string.match(state, '^(%d+) (%a+)')
-- A way that was shut once may be an accident; after a failed probe it is not.
if known == 'cut' or known == found or (found == 'part' and way.rest == first_us) then
  return {1, math.ceil(way.rest), known or '', 0}
end
redis.call('HSET', ways, host, string.format('%s %s %.0f', since or string.format('%.0f', way.since), found, now))
return {1, math.ceil(way.rest), found, known and 2 or 1}

--- open_way
-- Notes that an endpoint answered a call of a host; opens the way there if it was in trouble.
-- KEYS[1..4] as in fail_way
-- ARGV[1]  host
-- ARGV[2]  window     id of the endpoint's window
-- ARGV[3]  recent_us  how long the note is kept, microseconds
-- Returns  {opened, state}: opened is 1 if the way was shut, else 0; state: the host's earlier state ('part' or 'cut') if it
--          has now ended, else ''
-- Atomic because a call may fail at the same moment, and must be counted either before or after this.
local ways, well, hosts, epoch = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local host, window, recent_us = ARGV[1], ARGV[2], tonumber(ARGV[3])
-- include now
-- include ways
note_well(well, hosts, host, recent_us)
if redis.call('HEXISTS', epoch, 'ways') == 0 then return {0, ''} end
local way = read_way(ways, host, window)
redis.call('HDEL', ways, host .. ' ' .. window)
local state, left = redis.call('HGET', ways, host), 0
for field, one in pairs(ways_of(ways, host)) do
  if one.rest > 0 then left = left + 1 end
  if one.rest > 0 and state and string.find(state, 'cut', 1, true) then  -- other ways of the host may work now, too
    one.till = now
    write_way(ways, epoch, host, string.sub(field, #host + 2), one)
  end
end
local over = state and left == 0 and string.match(state, '%a+') or ''
if state and left == 0 then redis.call('HDEL', ways, host) end
if state and left > 0 then redis.call('HSET', ways, host, (string.gsub(state, 'cut', 'part'))) end
if redis.call('HLEN', ways) == 0 then redis.call('HDEL', epoch, 'ways') end
return {way and way.rest > 0 and 1 or 0, over}

--- forget_hosts
-- Forgets the ways of hosts that are gone.
-- KEYS[1]  ways   as in fail_way
-- KEYS[2]  epoch  likewise
-- ARGV     the hosts
-- Returns  how many entries there were
-- Atomic because the mark that there are entries must go with the last one.
local ways, epoch = KEYS[1], KEYS[2]
-- include now
-- include ways
local forgotten = 0
for _, host in ipairs(ARGV) do
  for field in pairs(ways_of(ways, host)) do forgotten = forgotten + redis.call('HDEL', ways, field) end
  forgotten = forgotten + redis.call('HDEL', ways, host)
end
if redis.call('HLEN', ways) == 0 then redis.call('HDEL', epoch, 'ways') end
return forgotten
