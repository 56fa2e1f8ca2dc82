--- ways
-- Nothing any more: it goes with the turns that include it.
local ways_of_hosts = nil
