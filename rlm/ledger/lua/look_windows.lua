-- Looks at the windows of endpoints and budgets without taking anything; begins the rest that a longer rule needs.
-- KEYS[1]  epoch    hash: since, before which windows are not trusted; underway_us, for how much longer
-- then for each of them: its window, its health (as in acquire_slot)
-- ARGV[1]  keep_us  how long slots are kept, at least
-- then for each of them: its number of rules, then for each rule its limit and its span in microseconds
-- Returns  {now_us, then for each of them {free, wait_us, rest_us, suspect, held_us, paused_us}}: slots free now, until
--          the next is, rest left of whatever kind, 1 if it was rested for what it answered and no probe has been
--          answered well since, else 0, left of the rest because its window cannot be trusted, of an operator's pause
-- One script because the answer must be of one instant, by the clock that the slots are stamped with.
local keep_us = tonumber(ARGV[1])
-- include now
-- include younger
-- include restamp_ahead
local answer = {string.format('%.0f', now)}
local at = 2
local trust = redis.call('HMGET', KEYS[1], 'since', 'underway_us')
for index = 2, #KEYS, 2 do
  local window, health = KEYS[index], KEYS[index + 1]
  local told = redis.call(
    'HMGET', health, 'rest_until_us', 'probing', 'probe_until_us', 'kept_us', 'held_until_us', 'paused_until_us')
  restamp_ahead(window)  -- here too: nobody asks a shut window for a slot
  local paused = math.max(0, tonumber(told[6] or 0) - now)
  local free, wait, longest = math.huge, 0, 0
  local rules = tonumber(ARGV[at])
  for rule = 1, rules do
    local limit, span = tonumber(ARGV[at + 2 * rule - 1]), tonumber(ARGV[at + 2 * rule])
    local taken = younger(window, now - span, limit)
    free = math.min(free, limit - taken)
    if taken == limit then
      wait = math.max(wait, redis.call('LINDEX', window, limit - 1) + span - now)
    end
    longest = math.max(longest, span)
  end
  at = at + 1 + 2 * rules
  local held = math.max(0, (told[5] or 0) - now, (trust[1] or -math.huge) + (trust[2] or 0) + longest - now)
  local kept = tonumber(told[4] or 0)
  if kept > 0 and longest > kept then  -- as in acquire_slot
    held = math.max(held, longest - kept)
    kept = math.max(keep_us, longest)
    redis.call('HSET', health, 'held_until_us', string.format('%.0f', now + held))
    redis.call('HSET', health, 'kept_us', string.format('%.0f', kept))
    redis.call('PEXPIRE', window, math.ceil(kept / 1000))
  end
  local rest = math.max(held, paused, (told[1] or 0) - now)
  wait = math.max(wait, rest)
  if told[2] then
    free = math.min(free, 1)
    wait = math.max(wait, tonumber(told[3] or 0) - now)
  end
  if wait > 0 then free = 0 end
  answer[#answer + 1] = {free, math.ceil(wait), math.ceil(rest), told[2] and 1 or 0, math.ceil(held), math.ceil(paused)}
end
return answer
