--- doubt
-- One rule for a Redis that may have forgotten calls, or whose clock stepped: every endpoint is held for its longest period,
-- once. The hash `lease` has server: run id of the server process that is trusted; epoch: grows with each doubt;
-- doubted_us: when the last one began, to which whoever computes when an endpoint is free adds the longest period; doubt:
-- why; parted: a server that was stopped in order.
-- Gives  trust()  {server, epoch, doubted, parted}: the server as text, nil if there is none yet; the epoch as text
--        suspect(now, server, epoch, stepped, expects)  doubts, if there is a reason; returns why, nil without one
--            server: run id of the one that answers; epoch: as the asker knows it, nil or 0 if it knows none
--            stepped: by how much the clock stepped as the asker has seen; expects: the time that it expects; nil or 0 for none
-- include clock
local P = prefix
local trusted
local function trust()
  if not trusted then
    local raw = redis.call('HMGET', P .. 'lease', 'server', 'epoch', 'doubted_us', 'parted')
    local epoch = tonumber(raw[2] or nil) and raw[2] or '1'  -- what is no number was written by others
    trusted = {server = raw[1] or nil, epoch = epoch, doubted = tonumber(raw[3] or nil) or 0, parted = raw[4] or nil}
  end
  return trusted
end

-- Moments that were written by the old clock move with it: what ends in 5 s still does.
local function move_moments(now, step)
  local before = now - step
  local function moves(at) return at and at > before and at < math.huge end
  local function move_fields(key, ...)
    local values = redis.call('HMGET', key, ...)
    for place, field in ipairs({...}) do
      local at = tonumber(values[place] or nil)
      if moves(at) then redis.call('HSET', key, field, us(at + step)) end
    end
  end
  local function look_again(key)  -- ahead of a clock that was set back nothing would be looked at
    if step > 0 then return end
    local members, pairs_of = redis.call('ZRANGE', key, 0, -1), {}
    for place, member in ipairs(members) do pairs_of[2 * place - 1], pairs_of[2 * place] = 0, member end
    for first = 1, #pairs_of, 200 do
      redis.call('ZADD', key, unpack(pairs_of, first, math.min(first + 199, #pairs_of)))
    end
  end
  move_fields(P .. 'run', 'deadline_us')
  move_fields(P .. 'lease', 'expires_us')
  for _, key in ipairs({P .. 'inflight', P .. 'backoff'}) do
    local entries = redis.call('ZRANGEBYSCORE', key, '(' .. us(before), '(+inf', 'WITHSCORES')
    for place = 1, #entries, 2 do redis.call('ZADD', key, us(entries[place + 1] + step), entries[place]) end
  end
  local rules, windows = redis.call('HGETALL', P .. 'rules'), {}
  for place = 1, #rules, 2 do
    local kind = string.match(rules[place], '^type (.*)$')
    if kind then look_again(P .. 'free:' .. kind) end
    for id in string.gmatch(rules[place + 1], '"id":%s*"([^"]+)"') do windows[id] = true end  -- decoding takes too long
  end
  for id in pairs(windows) do move_fields(P .. 'endpoint:' .. id, 'rest', 'asked', 'pause', 'hold') end
  look_again(P .. 'open')
end

local function suspect(now, server, epoch, stepped, expects)
  if server == '' then return end  -- the asker may not ask which it is, and gets no slot
  local known, was, why = tonumber(epoch or nil) or 0, trust(), nil
  local step = 0
  if not was.server then
    local used = redis.call('EXISTS', P .. 'run', P .. 'records', P .. 'totals') > 0
    if known > 0 or used then why = 'Redis came back empty, or as it was a while ago: it may have forgotten calls that were made' end
  elseif known > tonumber(was.epoch) then
    why = 'Redis came back as it was a while ago: it has forgotten calls that were made'
  elseif was.server ~= server then
    if was.parted ~= was.server then
      why = 'another server process of Redis answers (after a crash, a restore or a fail-over), which may have forgotten calls'
      -- Less may be due to the way there, and matters little.
      if (expects or 0) > 0 and math.abs(now - expects) > 2000000 then step = now - expects end
    end
  elseif (stepped or 0) ~= 0 and known == tonumber(was.epoch) then
    step, why = stepped, string.format('the clock of Redis stepped by %.3f s', stepped / 1000000)
  end
  if was.server == server and not was.parted and not why then return end
  redis.call('HDEL', P .. 'lease', 'parted')
  redis.call('HSET', P .. 'lease', 'server', server)
  if why then
    local later = math.max(tonumber(was.epoch), known) + 1
    redis.call('HSET', P .. 'lease', 'epoch', us(later), 'doubted_us', us(now), 'doubt', why)
    if step ~= 0 then move_moments(now, step) end
  elseif not was.server then
    redis.call('HSET', P .. 'lease', 'epoch', '1')
  end
  trusted = nil
  return why
end
