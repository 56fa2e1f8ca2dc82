--- set_pause(prefix; name, window, pause_us: number, by, record)
-- Pauses an endpoint or a budget, for ever if `pause_us` is negative; or resumes it if that is 0, which also ends a rest
-- because of its answers: its next call is a probe. A hold continues, for a slot might not be free.
-- A resume of what is neither paused nor rests is not recorded.
-- Atomic because a crash must not leave a pause without its record, which must say what was replaced or ended.
-- include endpoints
local now, place = now_us(), P .. 'endpoint:' .. window
local state = call('HMGET', place, 'pause', 'rest', 'asked')
local paused, rested = number(state[1]) > now, math.max(number(state[2]), number(state[3])) > now
local before = paused and 'paused' or nil
if pause_us == 0 then
  call('HDEL', place, 'pause', 'paused_by', 'paused_at', 'rest', 'asked')
  if rested then before = paused and 'paused, open' or 'open' end
else
  local until_us = pause_us < 0 and '253402300799000000' or us(now + pause_us)  -- the end of year 9999
  call('HSET', place, 'pause', until_us, 'paused_by', by, 'paused_at', seconds(now))
end
if before or pause_us ~= 0 then record_change(now, before, record) end
local sharing = call('HGET', P .. 'rules', 'sharing ' .. window)
for _, endpoint in ipairs(sharing and cjson.decode(sharing) or {name}) do refresh(now, endpoint) end
call('PUBLISH', P .. 'wake:workers', pause_us == 0 and 'resumed' or 'paused')

--- set_limits(prefix; token, limits: json)
-- Sets limits by hand, if the token is empty; or publishes those of the configuration file, except for limits set by hand that
-- still apply. A limit belongs to the window, so an endpoint or a budget that is renamed keeps it.
-- limits   {name, window, limit, in_file, record} of each; in_file: its limit in the file
-- Atomic because a limit set by hand must hold exactly until the file's value for it changes.
-- include base
if fenced(token) then return FENCED end
local now, rules = now_us(), P .. 'rules'
for _, each in ipairs(limits) do
  local limit, filed = 'limit ' .. each.window, 'filed ' .. each.window
  local known = call('HGET', rules, filed)
  local before = call('HGET', rules, limit) or token == '' and each.in_file
  call('HSET', P .. 'endpoint:' .. each.window, 'named', each.name)
  -- Also by hand, for otherwise the first publication would take the file for changed.
  if token ~= '' or not known then call('HSET', rules, filed, each.in_file) end
  if token == '' or known ~= each.in_file then
    call('HSET', rules, limit, each.limit)
    if before ~= each.limit then record_change(now, before, each.record) end
  end
end
