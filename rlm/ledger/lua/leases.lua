--- acquire_lease(prefix; owner, ttl_us: number, epoch, stepped_us: number, expects_us: number, revision, apart,
---     alone_us: number, server)
-- Takes the conductor's lease if nobody holds it, or renews it for its holder; and doubts Redis, whoever asks.
-- owner       the asker
-- ttl_us      how long the lease lasts from now, microseconds
-- epoch       of the lease, as the asker knows it; empty if it knows none
-- stepped_us  by how much the clock of Redis stepped, as the asker has seen it since; 0 if it did not
-- expects_us  the time of Redis that the asker expects, 0 if it expects none
-- revision    of the asker's configuration
-- apart       digest of its types and URLs
-- alone_us    for how long the lease and everybody with other types or URLs must be gone before the asker takes it
-- server      run id of the server of this connection
-- Returns  {token, holder, now_us, epoch, why, apart_us, other}: the asker's fencing token, or 0; the holder of the lease; why Redis is
--          doubted, if the asker does not know the epoch; if another configuration keeps the asker from the lease, for how
--          long at least, and the process of it that lives
-- Atomic because two schedulers may ask at once, and a token may be given out only once.
-- include doubt
-- include base
local lease, now = P .. 'lease', now_us()
local doubted = suspect(now, server, epoch, stepped_us, expects_us)
local holder, expires_us, token, others, seen_us = unpack(redis.call('HMGET', lease, 'owner', 'expires_us', 'token', 'apart', 'apart_us'))
local answer = {token = 0, holder = holder or '', now_us = us(now), epoch = trust().epoch}
if doubted or (epoch ~= '' and epoch ~= trust().epoch) then answer.why = redis.call('HGET', lease, 'doubt') or nil end
local expires = tonumber(expires_us or 0) or 0
if holder and holder ~= owner and expires > now then
  if expires > now + ttl_us then  -- the clock was set back; the holder will renew the lease if it is alive
    redis.call('HSET', lease, 'expires_us', us(now + ttl_us))
  end
  return named(answer)
end
if others and others ~= apart then
  for _, role in ipairs({'scheduler', 'supervisor', 'worker'}) do
    for _, id in ipairs(answer.other and {} or redis.call('SMEMBERS', P .. 'processes:' .. role)) do
      local read, process = pcall(cjson.decode, redis.call('GET', P .. 'process:' .. role .. ':' .. id) or '')
      if read and type(process) == 'table' and process.apart == others then answer.other = id end
    end
  end
  if answer.other then redis.call('HSET', lease, 'apart_us', us(now)) end
  local seen = answer.other and now or math.max(math.min(expires, now), math.min(tonumber(seen_us or 0) or 0, now))
  if now - seen < alone_us then
    answer.holder, answer.apart_us = '', us(alone_us - (now - seen))
    return named(answer)
  end
end
if not token then  -- an emptied Redis must not give a token out twice
  redis.call('HSET', lease, 'token', math.floor(now / 1000000))
end
if holder ~= owner then token = redis.call('HINCRBY', lease, 'token', 1) end
redis.call('HSET', lease, 'owner', owner, 'expires_us', us(now + ttl_us), 'apart', apart, 'revision', revision)
answer.token, answer.holder = token, owner
return named(answer)

--- release_lease(lease; owner)
-- Gives the conductor's lease up, so that a standby need not wait for its end.
-- lease    hash: owner, token, expires_us: since when nobody has it
-- owner    the holder that gives it up
-- Returns  1 given up, 0 it was no longer the owner's
-- Atomic because the owner must still hold what it gives up. The token stays because it must only grow.
-- include base
if redis.call('HGET', lease, 'owner') ~= owner then return 0 end
redis.call('HDEL', lease, 'owner')
redis.call('HSET', lease, 'expires_us', us(now_us()))
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
