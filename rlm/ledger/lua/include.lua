--- base
-- What all scripts use. Moments are microseconds since 1970, by the clock of Redis.
local P, call = prefix, redis.call
-- As text, because `..` would lose digits; as an argument or in a reply a number keeps them.
local function us(microseconds) return string.format('%.0f', microseconds) end
local function now_us()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end
local function seconds(now) return string.format('%d.%06d', math.floor(now / 1000000), now % 1000000) end
local function number(text) return tonumber(text or nil) or 0 end
-- A change of the live system; before: the old value, or nil; record: JSON without that and the time.
local function record_change(now, before, record)
  local old = before and '"' .. string.gsub(before, '[%c"\\]', ' ') .. '"' or 'null'
  call('LPUSH', P .. 'changes', '{"at":' .. seconds(now) .. ',"from":' .. old .. ',' .. string.sub(record, 2))
  call('LTRIM', P .. 'changes', 0, 999)
end
-- The answer to a conductor that has lost its lease, or whose run is no longer open; who has no token conducts nothing.
local FENCED = {err = 'FENCED by another conductor'}
local function fenced(token) return token ~= '' and call('HGET', P .. 'lease', 'token') ~= token end
