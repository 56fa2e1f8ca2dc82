-- Reads the clock of Redis.
-- Gives  time   {seconds, microseconds} since 1970, as text
--        now    the same in microseconds
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
