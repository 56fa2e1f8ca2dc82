--- acquire_lease(prefix; owner, ttl_us: number, epoch, stepped_us: number, expects_us: number, revision, apart, gone, server)
-- Takes the conductor's lease if nobody holds it, renews it for its holder, or gives it up if it is to last 0; and doubts
-- Redis, whoever asks. The lease is kept from who has other types and URLs (`apart`) than those in force, but not if the
-- asker knows that all are `gone` that had these.
-- Returns  `Standing` of rlm/ledger/leases.py
-- Atomic because two schedulers may ask at once, and a token may be given out only once. It only grows.
local lease = P .. 'lease'
local doubted = suspect(server, epoch, stepped_us, expects_us)
local holder, expires_us, token, in_force = unpack(call('HMGET', lease, 'owner', 'expires_us', 'token', 'apart'))
local answer = {token = 0, holder = holder or '', now_us = us(now), epoch = trust().epoch, apart = in_force or ''}
if doubted or (epoch ~= '' and epoch ~= trust().epoch) then answer.why = call('HGET', lease, 'doubt') or nil end
local expires = number(expires_us)
if ttl_us == 0 then
  if holder == owner then
    call('HDEL', lease, 'owner')
    call('HSET', lease, 'expires_us', us(now))  -- since when nobody has it
  end
elseif holder and holder ~= owner and expires > now then
  -- If the clock was set back, the holder will renew the lease if it is alive.
  call('HSET', lease, 'expires_us', us(math.min(expires, now + ttl_us)))
elseif holder ~= owner and in_force and in_force ~= apart and in_force ~= gone then
  answer.idle_us = us(now - expires)
else
  if not token then call('HSET', lease, 'token', math.floor(now / 1000000)) end  -- no token twice, even if Redis was emptied
  if holder ~= owner then token = call('HINCRBY', lease, 'token', 1) end
  call('HSET', lease, 'owner', owner, 'expires_us', us(now + ttl_us), 'apart', apart, 'revision', revision)
  answer.token, answer.holder = token, owner
  if first(P .. 'due') <= now then wake('due') end  -- of a lane that froze; whoever turns puts it back
end
return cmsgpack.pack(answer)
