--- clock
-- Reads the clock of Redis.
-- Gives  us(microseconds)  as text, because tostring would lose digits
--        now_us()          microseconds since 1970
local function us(microseconds)
  return string.format('%.0f', microseconds)
end
local function now_us()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

--- replies
-- Builds replies with names.
-- Gives  named(fields)  the names and values in one list; a field that is nil is left out; numbers must be whole
local function named(fields)
  local list = {}
  for name, value in pairs(fields) do
    if type(value) == 'boolean' then value = value and 1 or 0 end
    list[#list + 1] = name
    list[#list + 1] = value
  end
  return list
end

--- fencing
-- Refuses a conductor that has lost its lease to another, or whose run is no longer open.
-- Gives  FENCED                   the answer then
--        fenced(lease, token)     whether another conductor has the lease
--        fenced_run(run, run_id)  whether that run is no longer open
local FENCED = redis.error_reply('FENCED by another conductor')
local function fenced(lease, token)
  return redis.call('HGET', lease, 'token') ~= token
end
local function fenced_run(run, run_id)
  return redis.call('HGET', run, 'run_id') ~= run_id
end

--- trail
-- Writes the trail of an event, which keeps its newest 50 calls.
-- Gives  trail_entry(now, entry)  an entry as it stands in the trail: when, and the call and its answer, JSON
-- include clock
local function trail_entry(now, entry)
  return string.format('%d %d ', math.floor(now / 1000000), now % 1000000) .. entry
end

--- now
-- Reads the clock of Redis.
-- Gives  time   {seconds, microseconds} since 1970, as text
--        now    the same time in microseconds
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

--- fence
-- Refuses a conductor that has lost its lease to another.
-- Uses   lease, token
if redis.call('HGET', lease, 'token') ~= token then return redis.error_reply('FENCED by another conductor') end

--- score_of
-- Reads the order score of an event.
-- Gives  score_of(event)  '0' if it cannot be read: the event goes first, so that its release reveals the fault
local function score_of(event)
  local score = redis.pcall('HGET', event, 'score')
  return type(score) == 'string' and tonumber(score) and score or '0'
end

--- append_trail
-- Writes the entry of a call into the trail of its event, which keeps the newest 50.
-- Gives  append_trail(event, entry)  a key that is not an event stays unchanged
local function append_trail(event, entry)
  local time = redis.call('TIME')
  local place = string.format('t%d', (tonumber(redis.pcall('HINCRBY', event, 'trail', 1)) or 0) % 50)
  redis.pcall('HSET', event, place, time[1] .. ' ' .. time[2] .. ' ' .. entry)
end

--- settle_event
-- Ends an event: it is kept for a while without its item, to recognise duplicates, or deleted at once.
-- Gives  settle_event(event, state, dedupe_ms)
local function settle_event(event, state, dedupe_ms)
  if dedupe_ms <= 0 then return redis.call('DEL', event) end
  redis.call('HDEL', event, 'item', 'owner')
  redis.call('HSET', event, 'state', state)
  redis.call('PEXPIRE', event, dedupe_ms)
end
