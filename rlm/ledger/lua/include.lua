--- base
-- What all scripts use.
-- Gives  P                     the prefix of all keys
--        call                  `redis.call`
--        us(microseconds)      as text, because `..` would lose digits; as an argument or in a reply a number keeps them
--        now_us()              microseconds since 1970, by the clock of Redis
--        seconds(now)          that in seconds, with six decimals
--        number(text)          as a number, 0 if it is none
--        named(fields)         a reply: names and values in one list; a nil is left out; numbers must be whole
--        record_change(now, before, record)  records a change of the live system, the newest 1000 of them; before: the old
--                              value, or nil; record: JSON without it and the time
--        FENCED                the answer to a conductor that has lost its lease, or whose run is no longer open
--        fenced(token)         whether another conductor has the lease
local P, call = prefix, redis.call
local function us(microseconds) return string.format('%.0f', microseconds) end
local function now_us()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end
local function seconds(now) return string.format('%d.%06d', math.floor(now / 1000000), now % 1000000) end
local function number(text) return tonumber(text or nil) or 0 end
local function named(fields)
  local list = {}
  for name, value in pairs(fields) do
    if type(value) == 'boolean' then value = value and 1 or 0 end
    list[#list + 1], list[#list + 2] = name, value
  end
  return list
end
local function record_change(now, before, record)
  local old = before and '"' .. string.gsub(before, '[%c"\\]', ' ') .. '"' or 'null'
  call('LPUSH', P .. 'changes', '{"at":' .. seconds(now) .. ',"from":' .. old .. ',' .. string.sub(record, 2))
  call('LTRIM', P .. 'changes', 0, 999)
end
local FENCED = {err = 'FENCED by another conductor'}
local function fenced(token) return call('HGET', P .. 'lease', 'token') ~= token end
