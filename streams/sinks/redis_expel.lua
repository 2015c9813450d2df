-- Removes keys whatever their pairs, and what is remembered of them.
-- ARGV: prefix, topic, names of its fences as msgpack, rows as msgpack: {key, account}, where the
-- account is the one an item was found under, or empty.

local prefix, topic = ARGV[1], ARGV[2]
local fences = cmsgpack.unpack(ARGV[3])

--@boxes@

local function drop_both(account, key)
  if account ~= '' then
    drop(true, account, key)
    drop(false, account, key)
  end
end

for _, row in ipairs(cmsgpack.unpack(ARGV[4])) do
  local key, account = row[1], row[2]
  if topic == 'training-users' then
    -- As long as nothing stands of it, nobody finds its items.
    lock(key)
  else
    drop_both(account, key)
  end
  for _, name in ipairs(fences) do
    local fence = redis.call('HGET', name, key)
    if fence then
      if topic ~= 'training-users' then
        drop_both(string.sub(fence, 50), key)
      end
      redis.call('HDEL', name, key)
    end
  end
end
return 1
