-- Removes a dead letter for good and forgets its event.
-- KEYS[1]  failed  the list of dead letters
-- KEYS[2]  event   hash of its event; any other key for a letter without one
-- ARGV[1]  letter    as it stands in the list
-- ARGV[2]  event id  or empty
-- Returns  1 dropped, 0 the letter is not there any more
-- Atomic because an event that is under way again must not be forgotten with its old letter.
local failed, event = KEYS[1], KEYS[2]
local letter, event_id = ARGV[1], ARGV[2]
if redis.call('LREM', failed, 1, letter) == 0 then return 0 end
if event_id ~= '' and redis.call('HEXISTS', event, 'item') == 0 then
  redis.call('DEL', event)
end
return 1
