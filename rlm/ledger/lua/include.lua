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
--        append_trail(event, now, entry)  writes it behind the others; a key that is no event is left alone
local function trail_entry(now, entry)
  return string.format('%d %d ', math.floor(now / 1000000), now % 1000000) .. entry
end
local function append_trail(event, now, entry)
  local place = string.format('t%d', (tonumber(redis.pcall('HINCRBY', event, 'trail', 1)) or 0) % 50)
  redis.pcall('HSET', event, place, trail_entry(now, entry))
end
