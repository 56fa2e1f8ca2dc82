--- publish_expected(lease, expected; token, times: json)
-- Publishes what to expect of calls, and replaces what was published before.
-- lease     hash with the fencing token
-- expected  hash: type and endpoint -> microseconds a call takes, microseconds it needs
-- token
-- times     'type endpoint' -> 'seconds_us needed_us'
-- Returns   1
-- Atomic because a worker must find either the old or the new, and a conductor that lost its lease must change nothing.
-- include fencing
if fenced(lease, token) then return FENCED end
redis.call('DEL', expected)
for pair, spans in pairs(times) do redis.call('HSET', expected, pair, spans) end
return 1
