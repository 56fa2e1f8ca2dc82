-- Claims a released event for one lane, before anything else is done with it.
-- KEYS[1]  current   id of the open run
-- KEYS[2]  run       its hash
-- KEYS[3]  event     hash of the event
-- KEYS[4]  released  zset of its type
-- KEYS[5]  inflight  zset of its type, by the end of the lease (microseconds of Redis time, negative without a slot)
-- KEYS[6]  pending   zset of its type
-- KEYS[7]  calls     hash of the worker: event id -> its call, empty before it has a slot
-- KEYS[8]  limits    hash: name of an endpoint or a budget -> its limit in force
-- KEYS[9]  expected  hash: type and endpoint -> microseconds a call takes, microseconds it needs
-- KEYS[10] alone     id of the event that the worker carries alone, suspected of killing it; empty: kept free
-- ARGV[1]  run id
-- ARGV[2]  release   number of the release that the message belongs to
-- ARGV[3]  event id
-- ARGV[4]  worker    id of the worker
-- ARGV[5]  revision  of the worker's configuration
-- ARGV[6]  lease_us  how long the claim lasts, microseconds
-- ARGV[7]  configured_us  how long a call is expected to take if nothing is published of it, microseconds
-- ARGV[8]  slack_us  what must be left beside that, microseconds
-- ARGV[9]  type
-- ARGV[10] suspect   number of deaths from which on an event is carried alone
-- ARGV[11] hold_us   how long the worker is kept free for one that is to wait, microseconds; 0: it has waited enough
-- ARGV[12] number of its endpoints
-- ARGV[13..] their names, then the names of their budgets
-- Returns  {'stale'} an older release, or not released; {'revision'} the worker must be replaced; {'waits'} it stays
--          released until the worker has nothing in hand; {'late'} it fits nowhere before the deadline, {'alone'} the
--          worker has one alone or is kept free for it: it is pending again; or {'claimed', remaining_us, wallet, item,
--          endpoint, attempt, tries, runs, last, then what to expect of each endpoint, then each limit or empty}
-- Atomic because two workers may hold messages of the same event, and only one may send it.
local current, run, event, released, inflight, pending, calls, limits, expected, alone =
  KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[8], KEYS[9], KEYS[10]
local run_id, release, event_id, worker, revision, type = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[9]
local lease_us, configured_us, slack_us, hold_us, endpoints =
  tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[11]), tonumber(ARGV[12])
local conduct = redis.call('HMGET', run, 'state', 'deadline_us', 'revision', 'cancelled')
local told = redis.call('HMGET', event, 'wallet', 'item', 'endpoint', 'attempt', 'tries', 'tries_in', 'runs', 'last',
  'release', 'score', 'deaths')
local due, lonely = redis.call('ZSCORE', released, event_id), redis.call('GET', alone)
if redis.call('GET', current) ~= run_id or conduct[1] ~= 'running' or conduct[4] then return {'stale'} end
if conduct[3] ~= revision then return {'revision'} end
if not due or told[9] ~= release then return {'stale'} end
-- include now
local remaining, published, needed_us = tonumber(conduct[2]) - now, {}, endpoints == 0 and configured_us or math.huge
for index = 13, 12 + endpoints do
  local expects = redis.call('HGET', expected, type .. ' ' .. ARGV[index]) or ''
  published[#published + 1] = expects
  needed_us = math.min(needed_us, tonumber(string.match(expects, '%d+$')) or configured_us)
end
local late, suspected = remaining < needed_us + slack_us, tonumber(told[11] or 0) >= tonumber(ARGV[10])
local taken = lonely and (redis.call('HEXISTS', calls, lonely) == 1 or lonely == '' and not suspected)
if suspected and not taken and not late and hold_us > 0 and redis.call('HLEN', calls) > 0 then
  redis.call('SET', alone, '', 'PX', math.ceil(hold_us / 1000))
  redis.call('ZADD', released, string.format('%.0f', math.max(due, now + hold_us)), event_id)
  return {'waits'}
end
redis.call('ZREM', released, event_id)
if late or taken then
  redis.call('ZADD', pending, told[10], event_id)
  return {late and 'late' or 'alone'}
end
redis.call('ZADD', inflight, string.format('%.0f', -(now + lease_us)), event_id)  -- negative: it has no slot yet
redis.call('HSET', event, 'owner', worker)
redis.call('HSET', calls, event_id, '')
if suspected then redis.call('SET', alone, event_id, 'PX', math.max(1, math.ceil(lease_us / 500))) end  -- twice the lease
local claim = {'claimed', string.format('%.0f', remaining), told[1], told[2], told[3] or '', told[4] or '0',
  told[6] == run_id and told[5] or '0', told[7] or '0', told[8] or ''}
for _, expects in ipairs(published) do claim[#claim + 1] = expects end
for index = 13, #ARGV do claim[#claim + 1] = redis.call('HGET', limits, ARGV[index]) or '' end
return claim
