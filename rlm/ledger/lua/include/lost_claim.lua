-- Ends the script where the claim is not the worker's any more; a newer one of its own stays noted.
-- Uses   claim  {owner, release} of the event, and worker, release, calls, event_id
if claim[1] ~= worker or claim[2] == release then redis.call('HDEL', calls, event_id) end
if claim[1] ~= worker or claim[2] ~= release then return 0 end
