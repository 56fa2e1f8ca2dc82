--- publish_expected
-- Publishes what to expect of calls, and replaces what was published before.
-- KEYS[1]  lease     hash with the fencing token
-- KEYS[2]  expected  hash: type and endpoint -> microseconds a call takes, microseconds it needs
-- ARGV[1]  token
-- then for each type and endpoint: 'type endpoint', 'seconds_us needed_us'
-- Returns  how many were published
-- Atomic because a worker must find either the old or the new, and a conductor that lost its lease must change nothing.
local lease, expected = KEYS[1], KEYS[2]
local token = ARGV[1]
-- include fence
redis.call('DEL', expected)
for index = 2, #ARGV, 2 do
  redis.call('HSET', expected, ARGV[index], ARGV[index + 1])
end
return (#ARGV - 1) / 2
