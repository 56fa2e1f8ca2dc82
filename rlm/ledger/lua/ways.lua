--- fail_way(ways, well, hosts, epoch;
---   host, window, here: json, failing: number, first_us: number, longest_us: number, recent_us: number,
---   least: number, counts: number, why, calling: json)
-- Counts a call of a host that an endpoint did not answer: against the host's way there, if others' calls there succeed.
-- After some in a row the way is shut, and probed by one call at a time after each rest, which doubles. It opens again
-- if every host that makes calls, or would, fails at that endpoint, because then it is the endpoint's trouble.
-- ways        hash: `HOST WINDOW` -> the way of a host to an endpoint as `write_way` writes it; `HOST` -> since when it
--             is in trouble, 'cut' or 'part', and when a host that is cut off may try another call
-- well        zset of the endpoint: hosts, by when a call of theirs was last answered
-- hosts       zset: hosts, by when a call of theirs was last answered anywhere
-- epoch       hash: ways, 1 while there is an entry
-- host
-- window      id of the endpoint's window
-- here        whether the host is the cause whatever others' calls do, and one failure suffices
-- failing     number of failures in a row from which on the way is shut
-- first_us    the first rest, microseconds
-- longest_us  the longest rest
-- recent_us   for how long an answer to another host shows that the endpoint can be reached
-- least       number of shut ways, with no answer from anywhere since, from which on the host is cut off
-- counts      as how many failures it counts
-- why         in a few words
-- calling     the hosts that make calls, or would
-- Returns     {of_host, shut_us, state, news}: whether it is the host's trouble or the endpoint's; how long the way is shut
--             from now; state of the host: '', 'part' or 'cut'; news: 1 if it was well before, 2 if worse now
-- Atomic because many calls of a host fail at once, and only together do they show whose trouble it is.
-- include clock
-- include replies
-- include ways
local now = now_us()
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
if way.rest > 0 and way.probing == 0 and is_shut(now, way) then  -- the call was sent before the rest, so it adds nothing
  return named{of_host = of_host, shut_us = math.ceil(way.till - now), state = string.match(state, '%a+')}
end
way.failures, way.probing, way.why = way.failures + counts, 0, why
local enough = here or way.failures >= failing or string.find(state, 'cut', 1, true)
if of_host and enough then
  way.rest = way.rest > 0 and math.min(longest_us, way.rest * 2) or first_us
end
local opened = way.rest > 0 and not of_host
for _, one in ipairs(calling) do opened = opened and (one == host or fails(one)) end
if opened then way.rest, way.till = 0, 0 end
if way.rest > 0 then way.till = now + way.rest end
write_way(ways, epoch, host, window, way)
if opened then
  local left = 0
  for _, one in pairs(ways_of(ways, host)) do left = left + (one.rest > 0 and 1 or 0) end
  if left < least then state = string.gsub(state, 'cut', 'part') end
  if left == 0 then redis.call('HDEL', ways, host) elseif state ~= '' then redis.call('HSET', ways, host, state) end
end
if not (of_host and enough) then return named{of_host = of_host, state = string.match(state, '%a+')} end
local shut, last = 0, tonumber(redis.call('ZSCORE', hosts, host) or 0)
for _, one in pairs(ways_of(ways, host)) do
  if one.rest > 0 and one.since >= last then shut = shut + 1 end
end
local found = shut >= least and 'cut' or 'part'
local since, known = string.match(state, '^(%d+) (%a+)')
-- A way that was shut once may be an accident; after a failed probe it is not.
if known == 'cut' or known == found or (found == 'part' and way.rest == first_us) then
  return named{of_host = true, shut_us = math.ceil(way.rest), state = known}
end
redis.call('HSET', ways, host, table.concat({since or us(way.since), found, us(now)}, ' '))
return named{of_host = true, shut_us = math.ceil(way.rest), state = found, news = known and 2 or 1}

--- open_way(ways, well, hosts, epoch; host, window, recent_us: number)
-- Notes that an endpoint answered a call of a host; opens the way there if it was in trouble.
-- ways, well, hosts, epoch  as in fail_way
-- host
-- window     id of the endpoint's window
-- recent_us  how long the note is kept, microseconds
-- Returns    {opened, state}: whether the way was shut; the host's earlier state ('part' or 'cut') if it has now ended
-- Atomic because a call may fail at the same moment, and must be counted either before or after this.
-- include clock
-- include replies
-- include ways
local now = now_us()
note_well(now, well, hosts, host, recent_us)
if redis.call('HEXISTS', epoch, 'ways') == 0 then return named{opened = false} end
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
return named{opened = way ~= nil and way.rest > 0, state = over}

--- forget_hosts(ways, epoch; gone: json)
-- Forgets the ways of hosts that are gone.
-- ways   as in fail_way
-- epoch  likewise
-- gone   the hosts
-- Returns  how many entries there were
-- Atomic because the mark that there are entries must go with the last one.
-- include ways
local forgotten = 0
for _, host in ipairs(gone) do
  for field in pairs(ways_of(ways, host)) do forgotten = forgotten + redis.call('HDEL', ways, field) end
  forgotten = forgotten + redis.call('HDEL', ways, host)
end
if redis.call('HLEN', ways) == 0 then redis.call('HDEL', epoch, 'ways') end
return forgotten

--- ways
-- Reads and writes the ways of hosts to endpoints.
-- Gives  read_way(ways, host, window)  {failures in a row, since, till, rest, probing, why}, nil without trouble;
--        probing: 1 by a call, 2 by a connection that a call may follow, else 0
--        ways_of(ways, host)  the ways of a host, by the field of the hash
--        is_shut(now, way)  whether no call may go there; a rest too far ahead comes from a clock that was set back
--        write_way(ways, epoch, host, window, way)
--        note_well(now, well, hosts, host, recent_us)  notes that a call of a host was answered; errors are ignored
-- include clock
local function parsed_way(raw)
  local failures, since, till, rest, probing, why = string.match(raw or '', '^(%d+) (%d+) (%d+) (%d+) (%d) (.*)$')
  if not failures then return end
  return {failures = tonumber(failures), since = tonumber(since), till = tonumber(till), rest = tonumber(rest),
    probing = tonumber(probing), why = why}
end
local function read_way(ways, host, window)
  return parsed_way(redis.call('HGET', ways, host .. ' ' .. window))
end
local function ways_of(ways, host)
  local entries, of_host = redis.call('HGETALL', ways), {}
  for place = 1, #entries, 2 do
    if string.sub(entries[place], 1, #host + 1) == host .. ' ' then
      of_host[entries[place]] = parsed_way(entries[place + 1])
    end
  end
  return of_host
end
local function is_shut(now, way)
  return way.till > now and way.till - now <= 3600000000
end
local function write_way(ways, epoch, host, window, way)
  redis.call('HSET', ways, host .. ' ' .. window, string.format('%d %.0f %.0f %.0f %d %s', way.failures, way.since,
    way.till, way.rest, way.probing, way.why or ''))
  redis.call('HSET', epoch, 'ways', 1)
end
local function note_well(now, well, hosts, host, recent_us)
  for _, list in ipairs({well, hosts}) do
    redis.pcall('ZADD', list, us(now), host)
    redis.pcall('ZREMRANGEBYSCORE', list, '-inf', '(' .. us(now - recent_us))
  end
end
