--- waiting
-- Makes a type known to the turns of lanes after it has got a ready event again.
-- Gives  wait_again(prefix, type)  enters it in `open`, to be looked at now, if it is configured and a run is open; returns
--                                  whether it did. Whoever calls it wakes the workers then, once
--        wake_workers(prefix)      does that
local function wait_again(prefix, type)
  local rank = string.match(redis.call('HGET', prefix .. 'rules', 'type ' .. type) or '', '^%S+')
  if not rank or redis.call('EXISTS', prefix .. 'run') == 0 then return false end
  redis.call('ZADD', prefix .. 'open', '0', rank .. ' ' .. type)
  return true
end
local function wake_workers(prefix)
  redis.call('PUBLISH', prefix .. 'wake:workers', 'wake')
end
