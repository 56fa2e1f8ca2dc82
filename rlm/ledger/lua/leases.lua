--- acquire_lease
-- Takes the conductor's lease if nobody holds it, or renews it for its holder.
-- KEYS[1]  lease       hash: owner, token, expires_us, least (the schema that a holder must have)
-- KEYS[2]  quarantine  the new name for an invalid lease, unused so far
-- KEYS[3]  register    hash: key set aside -> its entry, JSON
-- KEYS[4]  schemas     hash: schema -> the version whose processes worked with it; if missing, it is not checked
-- ARGV[1]  owner   the asker
-- ARGV[2]  ttl_us  how long the lease lasts from now, microseconds
-- ARGV[3]  note    for the register
-- ARGV[4]  schema  that of the asker
-- ARGV[5]  least   the lowest schema with which others may conduct after it
-- Returns  {token, owner, aside, newer, barred}: the asker's fencing token, or 0 and the holder of the lease, if any;
--          aside: 1 if an invalid lease, or one with an invalid token, was set aside, else 0; newer: the version of the
--          highest schema above the asker's, or empty; barred: 1 if the asker's schema is too low to conduct, else 0
-- Atomic because two schedulers may ask at once, and a token may be given out only once. An invalid lease is set aside
--          here, because nobody has a token before.
local lease, quarantine, register = KEYS[1], KEYS[2], KEYS[3]
local owner, ttl_us, note, schema, least = ARGV[1], tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
-- include now
local held, aside = redis.pcall('HMGET', lease, 'owner', 'expires_us', 'token', 'least'), 0
if held.err or held[3] and (not string.match(held[3], '^%d+$') or #held[3] > 15) then
  redis.call('RENAME', lease, quarantine)
  redis.pcall('HSET', register, quarantine, note)  -- the register may be invalid, too
  held, aside = {}, 1
  least = math.max(least, schema)  -- whom it barred is not known any more
end
local newer, highest = '', schema
for _, known in ipairs(KEYS[4] and redis.pcall('HKEYS', KEYS[4]) or {}) do  -- an invalid hash has none
  local number = #known < 10 and string.match(known, '^%d+$') and tonumber(known) or 0
  if number > highest then newer, highest = redis.call('HGET', KEYS[4], known), number end
end
local needed = tonumber(held[4] or 0) or 0
if needed > schema then
  if held[1] == owner then redis.call('HDEL', lease, 'owner', 'expires_us') end
  return {0, held[1] ~= owner and held[1] or '', aside, newer ~= '' and newer or 'of a schema ' .. needed, 1}
end
local expires = tonumber(held[2] or 0) or 0
if held[1] and held[1] ~= owner and expires > now then
  if expires > now + ttl_us then  -- the clock was set back; the holder will renew the lease if it is alive
    redis.call('HSET', lease, 'expires_us', string.format('%.0f', now + ttl_us))
  end
  return {0, held[1], aside, newer, 0}
end
local token = held[3]
if not token then redis.call('HSET', lease, 'token', time[1]) end  -- an emptied Redis must not give a token out twice
if held[1] ~= owner then
  token = redis.call('HINCRBY', lease, 'token', 1)
end
redis.call('HSET', lease, 'owner', owner, 'expires_us', string.format('%.0f', now + ttl_us))
if least > needed then redis.call('HSET', lease, 'least', least) end
return {tonumber(token), owner, aside, newer, 0}

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
