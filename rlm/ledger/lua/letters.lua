--- remove_letter(prefix, failed, audit; letter, retried: data, item, rest, dropped)
-- Removes a dead letter, and in the same step makes the events `retried` of its item ready with nothing behind them, and puts
-- the letter of the `rest` of its types in its place; or pushes the item to `audit`; or forgets the event `dropped`; each if named.
-- retried  {id, wallet, offset} of each
-- Returns  1 done; 0 it is gone; -1 its events are already unsettled, and nothing was changed
-- Atomic because there must never be both the letter and its events, or neither.
local fresh = {}
for _, event in ipairs(retried) do
  if call('HEXISTS', event_key(event[1]), 'item') == 0 then fresh[#fresh + 1] = event end
end
if #retried > 0 and #fresh == 0 then return -1 end
if not call('LPOS', failed, letter, 'RANK', -1) then return 0 end  -- from the end: mostly the oldest are removed
if #retried == 0 and audit ~= '' then call('LPUSH', audit, item) end  -- first, for it fails if that is no list
if rest ~= '' then call('LINSERT', failed, 'BEFORE', letter, rest) end
call('LREM', failed, -1, letter)
for _, event in ipairs(fresh) do call('DEL', event_key(event[1])) end
enter(fresh, function() return item end)
if dropped ~= '' and redis.pcall('HGET', event_key(dropped), 'letter') == redis.sha1hex(letter) then  -- a damaged key stays
  call('DEL', event_key(dropped))
end
return 1
