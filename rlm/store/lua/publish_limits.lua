-- Publishes the limits of the configuration file, except where a limit set by hand still stands.
-- KEYS[1]  lease   hash with the fencing token
-- KEYS[2]  limits  hash: name of an endpoint or a budget -> its limit in force
-- KEYS[3]  filed   hash: the same name -> the limit that the file had when it was last published
-- ARGV[1]  token
-- then for each of them: its name, its limit in the file
-- Returns  how many limits were set from the file
-- Atomic because a limit set by hand must hold until the file's value for it changes, and no shorter.
local lease, limits, filed = KEYS[1], KEYS[2], KEYS[3]
local token = ARGV[1]
if redis.call('HGET', lease, 'token') ~= token then return redis.error_reply('FENCED by another conductor') end
local set = 0
for index = 2, #ARGV, 2 do
  local name, limit = ARGV[index], ARGV[index + 1]
  if redis.call('HGET', filed, name) ~= limit then
    redis.call('HSET', filed, name, limit)
    redis.call('HSET', limits, name, limit)
    set = set + 1
  end
end
return set
