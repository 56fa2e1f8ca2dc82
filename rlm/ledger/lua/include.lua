--- base
-- What all scripts use. Moments are microseconds since 1970, by the clock of Redis.
local P, call, time = prefix, redis.call, redis.call('TIME')
local now = time[1] * 1000000 + time[2]
-- As text, because `..` would lose digits; as an argument or in a reply a number keeps them.
local function us(microseconds) return string.format('%.0f', microseconds) end
local function number(text) return tonumber(text or nil) or 0 end
-- A change of the live system; before: the old value, or nil.
local function record_change(before, record)
  record.at, record.from = now / 1000000, before
  call('LPUSH', P .. 'changes', cjson.encode(record))
  call('LTRIM', P .. 'changes', 0, 999)
end
-- The answer to a conductor that has lost its lease, or whose run is no longer open; who has no token conducts nothing.
local FENCED = {err = 'FENCED by another conductor'}
local function fenced(token) return token ~= '' and call('HGET', P .. 'lease', 'token') ~= token end
