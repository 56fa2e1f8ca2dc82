-- Refuses a conductor that lost its lease to another one.
-- Uses   lease, token
if redis.call('HGET', lease, 'token') ~= token then return redis.error_reply('FENCED by another conductor') end
