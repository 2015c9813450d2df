-- Applies changes to the hashes of `streams.sinks.redis`, all of a call or nothing of it.
--
-- ARGV: prefix, changes as msgpack: {topic, partition, key, rank, generation, account, value},
-- positions as msgpack: {place, topic id, offset, generation}.
-- A fence is rank (19 digits of the epoch, 19 of the revision, 1 for a tombstone), generation
-- (10 digits) and, of an item that stands, its account.  Numbers are digits since Lua's own
-- cannot hold 2^63 - 1; texts of digits compare as their numbers do.

local prefix = ARGV[1]
local standing = {}  -- of accounts met: whether their record stands

local function fences(topic, partition)
  return prefix .. 'fences:' .. topic .. ':' .. partition
end

local function stands(partition, account)
  if standing[account] == nil then
    local fence = redis.call('HGET', fences('training-users', partition), account)
    standing[account] = fence ~= false and string.sub(fence, 39, 39) == '0'
  end
  return standing[account]
end

--@boxes@

local function account_changed(partition, account, allowed)
  local before = stands(partition, account)
  standing[account] = allowed
  if allowed and not before then
    unlock(account)
  elseif before and not allowed then
    lock(account)
  end
end

local function item_changed(partition, key, old_account, account, value)
  if old_account ~= '' and old_account ~= account then
    drop(stands(partition, old_account), old_account, key)
  end
  if account ~= '' then
    put(stands(partition, account), account, key, value)
  elseif old_account == '' then
    gone(key)  -- others may have written it
  end
end

for _, change in ipairs(cmsgpack.unpack(ARGV[2])) do
  local topic, partition, key, rank, generation, account, value = unpack(change)
  local name = fences(topic, partition)
  local fence = redis.call('HGET', name, key) or ''
  local old_rank, old_generation = string.sub(fence, 1, 39), string.sub(fence, 40, 49)
  local newest = generation > old_generation and generation or old_generation
  if rank >= old_rank then
    if topic == 'training-users' then
      account_changed(partition, key, string.sub(rank, 39, 39) == '0')
    else
      item_changed(partition, key, string.sub(fence, 50), account, value)
    end
    redis.call('HSET', name, key, rank .. newest .. account)
  elseif string.sub(rank, 1, 38) == string.sub(old_rank, 1, 38) then
    -- A record beside the tombstone of its own pair: dropped, and confirmed.
    redis.call('HSET', name, key, old_rank .. newest .. string.sub(fence, 50))
  end
end

for _, position in ipairs(cmsgpack.unpack(ARGV[3])) do
  local place, topic_id, offset, generation = unpack(position)
  local old = redis.call('HGET', prefix .. 'positions', place)
  local reached = generation .. offset
  if not old or reached >= string.sub(old, 1, 29) then
    redis.call('HSET', prefix .. 'positions', place, reached .. topic_id)
  end
end
return 1
