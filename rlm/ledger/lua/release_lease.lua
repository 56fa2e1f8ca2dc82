-- Gives the conductor's lease up, so that a standby need not wait for it to run out.
-- KEYS[1]  lease  hash: owner, token, expires_us
-- ARGV[1]  owner  who gives it up
-- Returns  1 given up, 0 it was not the owner's any more
-- Atomic because the owner must still hold what it gives up. The token stays: it only ever grows.
local lease = KEYS[1]
local owner = ARGV[1]
if redis.call('HGET', lease, 'owner') ~= owner then return 0 end
redis.call('HDEL', lease, 'owner', 'expires_us')
return 1
