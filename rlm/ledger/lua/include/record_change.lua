-- Records a change of the live system.
-- Uses   time
-- Gives  quoted(text)  text as JSON
--        record_change(changes, kept, before, record)  before: JSON of what was there; kept: number of records kept
local function quoted(text)
  return '"' .. string.gsub(text, '[%c"\\]', ' ') .. '"'
end
local function record_change(changes, kept, before, record)
  local at = string.format('{"at":%d.%06d,"from":', time[1], time[2])
  redis.call('LPUSH', changes, at .. before .. ',' .. string.sub(record, 2))
  redis.call('LTRIM', changes, 0, kept - 1)
end
