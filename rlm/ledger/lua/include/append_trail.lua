-- Writes the entry of a call into the trail of its event, which keeps the newest 50.
-- Gives  append_trail(event, entry)  nothing happens to a key that is no event
local function append_trail(event, entry)
  local time = redis.call('TIME')
  local place = string.format('t%d', (tonumber(redis.pcall('HINCRBY', event, 'trail', 1)) or 0) % 50)
  redis.pcall('HSET', event, place, time[1] .. ' ' .. time[2] .. ' ' .. entry)
end
