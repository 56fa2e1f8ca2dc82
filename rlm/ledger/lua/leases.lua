--- acquire_lease
-- Takes the conductor's lease if nobody holds it, or renews it for its holder.
-- KEYS[1]  lease   hash: owner, token, expires_us
-- ARGV[1]  owner   the asker
-- ARGV[2]  ttl_us  how long the lease lasts from now, microseconds
-- Returns  {token, owner}: the asker's fencing token, or 0 and the holder of the lease
-- Atomic because two schedulers may ask at once, and a token may be given out only once.
local lease = KEYS[1]
local owner, ttl_us = ARGV[1], tonumber(ARGV[2])
-- include now
local held = redis.call('HMGET', lease, 'owner', 'expires_us', 'token')
local expires = tonumber(held[2] or 0) or 0
if held[1] and held[1] ~= owner and expires > now then
  if expires > now + ttl_us then  -- the clock was set back; the holder will renew the lease if it is alive
    redis.call('HSET', lease, 'expires_us', string.format('%.0f', now + ttl_us))
  end
  return {0, held[1]}
end
local token = held[3]
if not token then redis.call('HSET', lease, 'token', time[1]) end  -- an emptied Redis must not give a token out twice
if held[1] ~= owner then
  token = redis.call('HINCRBY', lease, 'token', 1)
end
redis.call('HSET', lease, 'owner', owner, 'expires_us', string.format('%.0f', now + ttl_us))
return {tonumber(token), owner}

--- release_lease
-- Gives the conductor's lease up, so that a standby need not wait for its end.
-- KEYS[1]  lease  hash: owner, token, expires_us
-- ARGV[1]  owner  the holder that gives it up
-- Returns  1 given up, 0 it was no longer the owner's
-- Atomic because the owner must still hold what it gives up. The token stays because it must only grow.
local lease = KEYS[1]
local owner = ARGV[1]
if redis.call('HGET', lease, 'owner') ~= owner then return 0 end
redis.call('HDEL', lease, 'owner', 'expires_us')
return 1

--- note_end
-- Notes that everything that follows the end of a run is done.
-- KEYS[1]  lease   hash: token, ended
-- KEYS[2]  runs    list of run ids, newest first
-- ARGV[1]  run_id  the run
-- Returns  1 noted, 0 not: another run was closed since, or there is no lease
-- Atomic because a deposed leader may be late, and its note may not replace that of a later run. An emptied Redis gets
--          no lease here: it would have no token.
local lease, runs = KEYS[1], KEYS[2]
local run_id = ARGV[1]
if redis.call('LINDEX', runs, 0) ~= run_id or redis.call('HEXISTS', lease, 'token') == 0 then return 0 end
redis.call('HSET', lease, 'ended', run_id)
return 1
