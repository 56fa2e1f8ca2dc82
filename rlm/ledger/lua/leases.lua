--- acquire_lease(prefix; owner, ttl_us: number, epoch, stepped_us: number, expects_us: number, revision, apart, gone, server)
-- Takes the conductor's lease if nobody holds it, renews it for its holder, or gives it up; and doubts Redis, whoever asks.
-- ttl_us               how long the lease lasts from now; 0: it is given up, so that a standby need not wait for its end
-- revision, apart      of the asker's configuration: its revision, and a digest of its types and URLs
-- gone                 such a digest of which the asker knows that all who have it are gone: the asker's may replace it
-- Returns  {token, holder, now_us, epoch}: the asker's fencing token, or 0; the holder of the lease. why: Redis is doubted, if
--          the asker does not know the epoch. apart, idle_us: the digest in force, if that keeps the lease from the asker;
--          since when nobody has the lease
-- Atomic because two schedulers may ask at once, and a token may be given out only once. It only grows.
-- include doubt
local lease, now = P .. 'lease', now_us()
local doubted = suspect(now, server, epoch, stepped_us, expects_us)
local holder, expires_us, token, in_force = unpack(call('HMGET', lease, 'owner', 'expires_us', 'token', 'apart'))
local answer = {token = 0, holder = holder or '', now_us = us(now), epoch = trust().epoch}
if doubted or (epoch ~= '' and epoch ~= trust().epoch) then answer.why = call('HGET', lease, 'doubt') or nil end
local expires = number(expires_us)
if ttl_us == 0 then
  if holder == owner then
    call('HDEL', lease, 'owner')
    call('HSET', lease, 'expires_us', us(now))  -- since when nobody has it
  end
elseif holder and holder ~= owner and expires > now then
  if expires > now + ttl_us then  -- the clock was set back; the holder will renew the lease if it is alive
    call('HSET', lease, 'expires_us', us(now + ttl_us))
  end
elseif holder ~= owner and in_force and in_force ~= apart and in_force ~= gone then
  answer.apart, answer.idle_us = in_force, us(now - expires)
else
  if not token then call('HSET', lease, 'token', math.floor(now / 1000000)) end  -- no token twice, even if Redis was emptied
  if holder ~= owner then token = call('HINCRBY', lease, 'token', 1) end
  call('HSET', lease, 'owner', owner, 'expires_us', us(now + ttl_us), 'apart', apart, 'revision', revision)
  answer.token, answer.holder = token, owner
end
return cmsgpack.pack(answer)
