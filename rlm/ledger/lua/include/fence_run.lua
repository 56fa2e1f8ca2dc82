-- Refuses a conductor whose run is no longer the open one.
-- Uses   run, run_id
if redis.call('HGET', run, 'run_id') ~= run_id then return redis.error_reply('FENCED by another conductor') end
