-- Begins a new epoch where the windows cannot be trusted: every endpoint is held until they can, then slots are taken.
-- KEYS[1]  lease  hash with the fencing token
-- KEYS[2]  epoch  hash: born (microseconds of Redis time), id, server, slots, distrust; since, why: of this beginning
-- then     the health of each endpoint and budget
-- ARGV[1]  token
-- ARGV[2]  after  when the epoch before this one was born, as far as anybody knows; this one is younger
-- ARGV[3]  id     of the new epoch
-- ARGV[4]  why    the windows cannot be trusted, in words
-- then for each health: how long it is held from now, microseconds
-- Returns  {born, id} of the new epoch
-- Atomic because no slot may be taken between the hold and the word for the server.
local lease, epoch = KEYS[1], KEYS[2]
local token, after, id, why = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]
if redis.call('HGET', lease, 'token') ~= token then return redis.error_reply('FENCED by another conductor') end
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
for index = 3, #KEYS do
  local held = math.max(now + tonumber(ARGV[index + 2]), tonumber(redis.call('HGET', KEYS[index], 'held_until_us') or 0))
  redis.call('HSET', KEYS[index], 'held_until_us', string.format('%.0f', held))
end
local born = math.max(now, after + 1, tonumber(redis.call('HGET', epoch, 'born') or 0) + 1)
local server = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
redis.call('HDEL', epoch, 'distrust')
redis.call('HSET', epoch, 'born', string.format('%.0f', born), 'id', id, 'slots', 0, 'server', server,
  'since', string.format('%.0f', now), 'why', why)
return {string.format('%.0f', born), id}
