-- Has slots that lie ahead of the clock count as taken just now: it was set back.
-- Uses   now
-- Gives  restamp_ahead(window)
local function restamp_ahead(window)
  for ahead = 0, redis.call('LLEN', window) - 1 do
    if tonumber(redis.call('LINDEX', window, ahead)) <= now then break end
    redis.call('LSET', window, ahead, string.format('%.0f', now))
  end
end
