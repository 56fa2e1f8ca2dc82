--- acquire_lease(lease; owner, ttl_us: number)
-- Takes the conductor's lease if nobody holds it, or renews it for its holder.
-- lease    hash: owner, token, expires_us
-- owner    the asker
-- ttl_us   how long the lease lasts from now, microseconds
-- Returns  {token, holder}: the asker's fencing token, or 0; the holder of the lease
-- Atomic because two schedulers may ask at once, and a token may be given out only once.
-- include replies
-- include clock
local now = now_us()
local holder, expires_us, token = unpack(redis.call('HMGET', lease, 'owner', 'expires_us', 'token'))
local expires = tonumber(expires_us or 0) or 0
if holder and holder ~= owner and expires > now then
  if expires > now + ttl_us then  -- the clock was set back; the holder will renew the lease if it is alive
    redis.call('HSET', lease, 'expires_us', us(now + ttl_us))
  end
  return named{token = 0, holder = holder}
end
if not token then  -- an emptied Redis must not give a token out twice
  redis.call('HSET', lease, 'token', math.floor(now / 1000000))
end
if holder ~= owner then token = redis.call('HINCRBY', lease, 'token', 1) end
redis.call('HSET', lease, 'owner', owner, 'expires_us', us(now + ttl_us))
return named{token = token, holder = owner}

--- release_lease(lease; owner)
-- Gives the conductor's lease up, so that a standby need not wait for its end.
-- lease    hash: owner, token, expires_us
-- owner    the holder that gives it up
-- Returns  1 given up, 0 it was no longer the owner's
-- Atomic because the owner must still hold what it gives up. The token stays because it must only grow.
if redis.call('HGET', lease, 'owner') ~= owner then return 0 end
redis.call('HDEL', lease, 'owner', 'expires_us')
return 1

--- note_end(lease, runs; run_id)
-- Notes that everything that follows the end of a run is done.
-- lease    hash: token, ended
-- runs     list of run ids, newest first
-- run_id   the run
-- Returns  1 noted, 0 not: another run was closed since, or there is no lease
-- Atomic because a deposed leader may be late, and its note may not replace that of a later run. An emptied Redis gets
--          no lease here: it would have no token.
if redis.call('LINDEX', runs, 0) ~= run_id or redis.call('HEXISTS', lease, 'token') == 0 then return 0 end
redis.call('HSET', lease, 'ended', run_id)
return 1
