-- One hash for each item, as Feast's Redis online store lays it out: all views of the entity in it.
-- Constants before this: HEAD, PROJECT, FIELDS, ALLOWED, OWN, VIEWS, FAR; see `streams.sinks.feast`.
--
-- A purged or hidden item leaves a gravestone: time stamps so late that Feast drops older values.

local function feast_key(id)
  return HEAD .. struct.pack('<I4', #id) .. id .. PROJECT
end

local function hidden_key(id)
  return prefix .. 'hidden:' .. id
end

local function varint(number)
  local out = ''
  while number >= 128 do
    out = out .. string.char(number % 128 + 128)
    number = math.floor(number / 128)
  end
  return out .. string.char(number)
end

local views  -- fields with time stamps, of all views met so far
local MET = 10  -- items of an account that are looked at for views: they have the same ones

local function meet(field)
  if not views then
    views = {}
    for _, each in ipairs(VIEWS) do views[each] = true end
    for _, each in ipairs(redis.call('SMEMBERS', prefix .. 'views')) do views[each] = true end
  end
  if field and not views[field] then
    views[field] = true
    redis.call('SADD', prefix .. 'views', field)
  end
end

local function meet_all(name)
  for _, field in ipairs(redis.call('HKEYS', name)) do
    if #field > 4 and string.sub(field, 1, 4) == '_ts:' then meet(field) end
  end
end

local function is_grave(name)
  return redis.call('HGET', name, OWN) == FAR
end

local function dig(name)
  meet()
  local stones = {}
  for field in pairs(views) do
    stones[#stones + 1] = field
    stones[#stones + 1] = FAR
  end
  redis.call('HSET', name, OWN, FAR, unpack(stones))
end

local function purge(name)
  meet_all(name)
  redis.call('DEL', name)
  dig(name)
end

local function gone(id)
  redis.call('DEL', hidden_key(id))
  purge(feast_key(id))
end

local function hide(id)
  local name = feast_key(id)
  local own = redis.call('HGET', name, OWN)
  if own == FAR then
    return  -- the patrol looks after what is written past a gravestone
  elseif own or redis.call('EXISTS', name) == 1 then
    redis.call('RENAME', name, hidden_key(id))
  end
  dig(name)
end

local function show(id)
  local name, hidden = feast_key(id), hidden_key(id)
  if redis.call('EXISTS', hidden) == 1 then
    redis.call('RENAME', hidden, name)
  end
end

local function put(open, account, id, value)
  redis.call('SADD', prefix .. 'items:' .. account, id)
  local name = feast_key(id)
  if not open then
    meet_all(name)
    hide(id)
    name = hidden_key(id)
  elseif is_grave(name) then
    redis.call('DEL', name)
  end
  local fields = {}
  for index, field in ipairs(FIELDS) do
    local text = value[index]
    if text == '' then
      redis.call('HDEL', name, field)
    else
      fields[#fields + 1] = field
      fields[#fields + 1] = '\018' .. varint(#text) .. text
    end
  end
  local seconds = '\008' .. varint(tonumber(value[#FIELDS + 1]))
  redis.call('HSET', name, OWN, seconds, ALLOWED, '\056\001', unpack(fields))
end

local function drop(open, account, id)
  redis.call('SREM', prefix .. 'items:' .. account, id)
  gone(id)
end

local function lock(account)
  -- As little as can be for each item, as nobody is answered meanwhile.
  for index, id in ipairs(redis.call('SMEMBERS', prefix .. 'items:' .. account)) do
    if index <= MET then meet_all(feast_key(id)) end
    hide(id)
  end
end

local function unlock(account)
  for _, id in ipairs(redis.call('SMEMBERS', prefix .. 'items:' .. account)) do show(id) end
end
