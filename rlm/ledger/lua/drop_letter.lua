-- Removes a dead letter for good and forgets its event, if that is settled and failed with this letter.
-- KEYS[1]  failed  the list of dead letters
-- KEYS[2]  event   hash of its event; any other key for a letter without one
-- ARGV[1]  letter    as it stands in the list
-- ARGV[2]  event id  or empty
-- Returns  1 dropped, 0 the letter is not there any more
-- Atomic because an event that was taken again meanwhile must not be forgotten with its old letter.
local failed, event = KEYS[1], KEYS[2]
local letter, event_id = ARGV[1], ARGV[2]
if redis.call('LREM', failed, 1, letter) == 0 then return 0 end
local known = redis.call('HMGET', event, 'state', 'letter')
if event_id ~= '' and known[1] == 'failed' and (known[2] or redis.sha1hex(letter)) == redis.sha1hex(letter) then
  redis.call('DEL', event)
end
return 1
