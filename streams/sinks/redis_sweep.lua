-- Removes rows that were confirmed by no generation from ARGV[4] on.
-- ARGV: prefix, topic, partition, generation (10 digits), then keys that looked like that before.

local prefix, topic, partition, generation = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

local function stands(number, account)
  local fence = redis.call('HGET', prefix .. 'fences:training-users:' .. number, account)
  return fence ~= false and string.sub(fence, 39, 39) == '0'
end

--@boxes@

local name = prefix .. 'fences:' .. topic .. ':' .. partition
local removed = 0
for index = 5, #ARGV do
  local key = ARGV[index]
  local fence = redis.call('HGET', name, key)
  if fence and string.sub(fence, 40, 49) < generation then
    local allowed = string.sub(fence, 39, 39) == '0'
    if topic == 'training-users' then
      if allowed then lock(key) end
    elseif allowed then
      local account = string.sub(fence, 50)
      drop(stands(partition, account), account, key)
    end
    redis.call('HDEL', name, key)
    removed = removed + 1
  end
end
return removed
