--- doubt
-- One rule for a Redis that may have forgotten calls, or whose clock stepped: every endpoint is held for its longest period,
-- once. The lease says since when (`doubted_us`), to which whoever computes when an endpoint is free adds that period; its epoch
-- grows with each doubt.
-- include endpoints
-- Doubts, if there is a reason; returns why, nil without one. server: that answers; epoch: as the asker knows it, nil or empty
-- if it knows none; stepped: by how much the clock stepped as it has seen; expects: the time that it expects; nil or 0 for none.
local function suspect(server, epoch, stepped, expects)
  if server == '' then return end  -- the asker may not ask which it is, and gets no slot
  local lease, was, known, why, step = P .. 'lease', trust(), number(epoch), nil, 0
  if not was.server and (known > 0 or call('EXISTS', P .. 'run', P .. 'records', P .. 'totals') > 0)
    or was.server and known > tonumber(was.epoch) then
    why = 'Redis came back empty, or as it was a while ago: it may have forgotten calls that were made'
  elseif was.server and was.server ~= server and was.parted ~= was.server then
    why = 'another server process of Redis answers (after a crash, a restore or a fail-over), which may have forgotten calls'
    -- Less may be due to the way there, and matters little.
    if (expects or 0) > 0 and math.abs(now - expects) > 2000000 then step = now - expects end
  elseif was.server == server and (stepped or 0) ~= 0 and known == tonumber(was.epoch) then
    step, why = stepped, string.format('the clock of Redis stepped by %.3f s', stepped / 1000000)
  end
  if not why and was.server == server and not was.parted then return end
  trusted = nil
  call('HDEL', lease, 'parted')
  call('HSET', lease, 'server', server)
  if not why then return not was.server and call('HSET', lease, 'epoch', 1) and nil end
  call('HSET', lease, 'epoch', us(math.max(tonumber(was.epoch), known) + 1), 'doubted_us', now, 'doubt', why)
  if step == 0 then return why end
  -- Moments that were written by the old clock move with it: what ends in 5 s still does.
  local function move(key, field)
    if call('HEXISTS', key, field) == 1 then redis.pcall('HINCRBY', key, field, step) end
  end
  move(P .. 'run', 'deadline_us')
  move(lease, 'expires_us')
  for _, member in ipairs(call('ZRANGE', P .. 'due', 0, -1)) do call('ZINCRBY', P .. 'due', step, member) end
  for _, field in ipairs(call('HKEYS', P .. 'rules')) do
    local id = string.match(field, '^limit (.*)')
    for _, moment in ipairs(id and {'rest', 'pause', 'hold'} or {}) do move(P .. 'endpoint:' .. id, moment) end
  end
  reset()
  return why
end
