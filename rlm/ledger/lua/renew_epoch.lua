-- Begins a new epoch after windows could not be trusted: each is held until it can be, then slots are taken again.
-- KEYS[1]  lease  hash with the fencing token
-- KEYS[2]  epoch  hash: born (microseconds of Redis time), id, server, slots; since, underway_us, why of this beginning
-- ARGV[1]  token
-- ARGV[2]  after        when the epoch before this one was born, as far as anybody knows; this one is younger
-- ARGV[3]  id           of the new epoch
-- ARGV[4]  why          the windows cannot be trusted, in words
-- ARGV[5]  underway_us  how much longer than its longest period each window is held, microseconds
-- Returns  {born, id} of the new epoch
-- Atomic because no slot may be taken between the hold and the word for the server.
local lease, epoch = KEYS[1], KEYS[2]
local token, after, id, why, underway_us = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4], ARGV[5]
-- include fence
-- include now
local born = math.max(now, after + 1, tonumber(redis.call('HGET', epoch, 'born') or 0) + 1)
local server = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
redis.call('HDEL', epoch, 'distrust')
redis.call('HSET', epoch, 'born', string.format('%.0f', born), 'id', id, 'slots', 0, 'server', server,
  'since', string.format('%.0f', now), 'underway_us', underway_us, 'why', why)
return {string.format('%.0f', born), id}
