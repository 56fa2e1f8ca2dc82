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
-- KEYS[10] alone     id of the event that the worker carries alone, for it may be what kills workers
-- ARGV[1]  run id
-- ARGV[2]  release   number of the release that the message belongs to
-- ARGV[3]  event id
-- ARGV[4]  worker    id of the worker
-- ARGV[5]  revision  of the worker's configuration
-- ARGV[6]  lease_us  how long the claim lasts, microseconds
-- ARGV[7]  configured_us  how long a call is expected to take where nothing is published of it, microseconds
-- ARGV[8]  slack_us  what must be left beside that, microseconds
-- ARGV[9]  type
-- ARGV[10] suspect   number of deaths from which on an event is carried alone
-- ARGV[11] number of its endpoints
-- ARGV[12..] their names, then the names of their budgets
-- Returns  {'stale'} an older release, or not released; {'revision'} the worker must be replaced;
--          {'alone'} it stays released, for this event, or the one that the worker has, is to be carried alone;
--          {'late'} it fits before the deadline at no endpoint and is pending again; or
--          {'claimed', remaining_us, wallet, item, endpoint, attempt, tries, runs, last,
--           then for each endpoint what to expect of it, then the limit of each name: empty where not published}
-- Atomic because two workers may hold messages of the same event, and only one may send it.
local current, run, event, released, inflight, pending, calls, limits, expected, alone =
  KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[8], KEYS[9], KEYS[10]
local run_id, release, event_id, worker, revision, type = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[9]
local lease_us, configured_us, slack_us, endpoints =
  tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[11])
if redis.call('GET', current) ~= run_id then return {'stale'} end
local conduct = redis.call('HMGET', run, 'state', 'deadline_us', 'revision', 'cancelled')
if conduct[1] ~= 'running' or conduct[4] then return {'stale'} end
if conduct[3] ~= revision then return {'revision'} end
if redis.call('HGET', event, 'release') ~= release then return {'stale'} end
local lonely = redis.call('GET', alone)
if lonely and redis.call('HEXISTS', calls, lonely) == 1 then return {'alone'} end
local suspected = tonumber(redis.call('HGET', event, 'deaths') or 0) >= tonumber(ARGV[10])
if suspected and redis.call('HLEN', calls) > 0 then return {'alone'} end
if redis.call('ZREM', released, event_id) == 0 then return {'stale'} end
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local remaining = tonumber(conduct[2]) - now
local published, needed_us = {}, nil
for index = 12, 11 + endpoints do
  local told = redis.call('HGET', expected, type .. ' ' .. ARGV[index]) or ''
  published[#published + 1] = told
  local needs = tonumber(string.match(told, '%d+$')) or configured_us
  needed_us = math.min(needed_us or needs, needs)
end
if remaining < (needed_us or configured_us) + slack_us then
  redis.call('ZADD', pending, redis.call('HGET', event, 'score'), event_id)
  return {'late'}
end
redis.call('ZADD', inflight, string.format('%.0f', -(now + lease_us)), event_id)  -- negative: it has no slot yet
redis.call('HSET', event, 'owner', worker)
redis.call('HSET', calls, event_id, '')
if suspected then redis.call('SET', alone, event_id, 'PX', math.ceil(lease_us / 500)) end  -- twice the lease
local told = redis.call('HMGET', event, 'wallet', 'item', 'endpoint', 'attempt', 'tries', 'tries_in', 'runs', 'last')
local tries = told[6] == run_id and told[5] or '0'
local claim = {'claimed', string.format('%.0f', remaining), told[1], told[2], told[3] or '', told[4] or '0', tries,
  told[7] or '0', told[8] or ''}
for _, told in ipairs(published) do claim[#claim + 1] = told end
for index = 12, #ARGV do claim[#claim + 1] = redis.call('HGET', limits, ARGV[index]) or '' end
return claim
