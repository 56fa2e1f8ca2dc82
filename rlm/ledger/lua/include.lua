--- base
-- What most scripts use.
-- Gives  call                     `redis.call`
--        us(microseconds)         as text, because `..` would lose digits; as an argument or in a reply a number keeps them
--        now_us()                 microseconds since 1970, by the clock of Redis
--        named(fields)            a reply: names and values in one list; a nil is left out; numbers must be whole
--        FENCED                   the answer to a conductor that has lost its lease, or whose run is no longer open
--        fenced(lease, token)     whether another conductor has the lease
--        fenced_run(run, run_id)  whether that run is no longer open
local call = redis.call
local function us(microseconds) return string.format('%.0f', microseconds) end
local function now_us()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end
local function named(fields)
  local list = {}
  for name, value in pairs(fields) do
    if type(value) == 'boolean' then value = value and 1 or 0 end
    list[#list + 1] = name
    list[#list + 1] = value
  end
  return list
end
local FENCED = {err = 'FENCED by another conductor'}
local function fenced(lease, token) return call('HGET', lease, 'token') ~= token end
local function fenced_run(run, run_id) return call('HGET', run, 'run_id') ~= run_id end
