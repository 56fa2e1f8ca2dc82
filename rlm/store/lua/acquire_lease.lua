-- Takes the conductor's lease if nobody holds it, or prolongs it for its holder.
-- KEYS[1]  lease   hash: owner, token, expires_us
-- ARGV[1]  owner   who asks
-- ARGV[2]  ttl_us  how long the lease lasts from now, microseconds
-- Returns  {token, owner}: the asker's fencing token, or 0 and who holds the lease
-- Atomic because two schedulers ask at once, and a token may be given out only once.
local lease = KEYS[1]
local owner, ttl_us = ARGV[1], tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local held = redis.call('HMGET', lease, 'owner', 'expires_us', 'token')
if held[1] and held[1] ~= owner and tonumber(held[2]) > now then
  if tonumber(held[2]) > now + ttl_us then  -- the clock was set back: its holder prolongs it again, if it is alive
    redis.call('HSET', lease, 'expires_us', string.format('%.0f', now + ttl_us))
  end
  return {0, held[1]}
end
local token = held[3]
if not token then redis.call('HSET', lease, 'token', time[1]) end  -- a Redis that came back empty gives none out twice
if held[1] ~= owner then
  token = redis.call('HINCRBY', lease, 'token', 1)
end
redis.call('HSET', lease, 'owner', owner, 'expires_us', string.format('%.0f', now + ttl_us))
return {tonumber(token), owner}
