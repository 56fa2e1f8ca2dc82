-- Reads the order score of an event.
-- Gives  score_of(event)  of one that cannot be read '0': it goes first, to be found out when it is released
local function score_of(event)
  local score = redis.pcall('HGET', event, 'score')
  return type(score) == 'string' and tonumber(score) and score or '0'
end
