-- One hash for each product of a user: JSON by content_id.  One RENAME hides an account.
local function box(open, account)
  return prefix .. (open and 'items:' or 'hidden:') .. account
end

local function put(open, account, key, value)
  redis.call('HSET', box(open, account), key, value)
end

local function drop(open, account, key)
  redis.call('HDEL', box(open, account), key)
end

local function move(account, from_open)
  if redis.call('EXISTS', box(from_open, account)) == 1 then
    redis.call('RENAME', box(from_open, account), box(not from_open, account))
  end
end

local function lock(account)
  move(account, true)
end

local function unlock(account)
  move(account, false)
end

local function gone(key)
  -- Nobody else writes here: what we never put is not there.
end
