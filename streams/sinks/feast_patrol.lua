-- Purges anew what was written past a gravestone.  ARGV: prefix, then keys of Feast's hashes.

local prefix = ARGV[1]

--@boxes@

local purged = 0
for index = 2, #ARGV do
  local name = ARGV[index]
  if is_grave(name) then
    for _, field in ipairs(redis.call('HKEYS', name)) do
      if #field <= 4 or string.sub(field, 1, 4) ~= '_ts:' then
        purge(name)
        purged = purged + 1
        break
      end
    end
  end
end
return purged
