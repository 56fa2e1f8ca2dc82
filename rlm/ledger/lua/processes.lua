--- announce(prefix; role, id, entry)
-- Enters a process in the register, or renews its entry.
-- role, id
-- entry    what it announces about itself, JSON
-- Returns  1
-- One script because whether it lives is judged by the clock of Redis, by which it must be stamped.
-- include base
redis.call('HSET', prefix .. 'processes', role .. ' ' .. id, us(now_us()) .. ' ' .. entry)
return 1
