"""The Lua scripts: the only writers of live state. Each applies everything or nothing, in one round trip."""

from __future__ import annotations

from hashlib import sha1

COMMIT = """
-- KEYS: ready, stream.  ARGV: identity, stall (ms), now (s), then nine counted lists, then the record.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return {'not ready'} end
local at = 4
local function list(width)
  local n = tonumber(ARGV[at]); local first = at + 1
  at = first + n * width
  return n, first
end
local expected, e = list(2)
local absent, a = list(1)
local once, o = list(2)
local put, p = list(3)
local rate, r = list(3)
local sizes, h = list(2)
local touched, t = list(3)
local takes, k = list(5)
local alive, l = list(4)
local record = ARGV[at]

if expected > 0 then
  local keys = {}
  for i = 1, expected do keys[i] = ARGV[e + (i - 1) * 2] end
  local found = redis.call('MGET', unpack(keys))
  local moved = {'moved'}
  for i = 1, expected do
    if (found[i] or '0') ~= ARGV[e + (i - 1) * 2 + 1] then moved[#moved + 1] = keys[i] end
  end
  if #moved > 1 then return moved end
end
for i = 0, absent - 1 do
  if redis.call('EXISTS', ARGV[a + i]) == 1 then return {'denied', ARGV[a + i]} end
end
for i = 0, rate - 1 do
  local limit = tonumber(ARGV[r + i * 3 + 2])
  if tonumber(redis.call('GET', ARGV[r + i * 3]) or '0') >= limit then return {'limited', ARGV[r + i * 3]} end
end
for i = 0, once - 1 do
  if redis.call('EXISTS', ARGV[o + i * 2]) == 1 then return {'used', ARGV[o + i * 2]} end
end
for i = 0, sizes - 1 do
  if redis.call('SCARD', ARGV[h + i * 2]) ~= tonumber(ARGV[h + i * 2 + 1]) then return {'moved', ARGV[h + i * 2]} end
end
for i = 0, takes - 1 do
  local taken = tonumber(redis.call('GET', ARGV[k + i * 5]) or ARGV[k + i * 5 + 4])
  if taken + tonumber(ARGV[k + i * 5 + 1]) > tonumber(ARGV[k + i * 5 + 2]) then return {'exhausted', ARGV[k + i * 5]} end
end
for i = 0, alive - 1 do
  redis.call('ZREMRANGEBYSCORE', ARGV[l + i * 4], '-inf', ARGV[3])
  if redis.call('ZCARD', ARGV[l + i * 4]) >= tonumber(ARGV[l + i * 4 + 1]) then return {'exhausted', ARGV[l + i * 4]} end
end
if record ~= '' then
  local oldest = redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 1)[1]
  if oldest then
    local now = redis.call('TIME')
    local age = tonumber(now[1]) * 1000 + math.floor(tonumber(now[2]) / 1000) - tonumber(string.match(oldest[1], '^%d+'))
    if age > tonumber(ARGV[2]) then return {'stalled'} end
  end
end

for i = 0, once - 1 do redis.call('SET', ARGV[o + i * 2], '1', 'EX', ARGV[o + i * 2 + 1]) end
for i = 0, put - 1 do redis.call('SET', ARGV[p + i * 3], ARGV[p + i * 3 + 1], 'EX', ARGV[p + i * 3 + 2]) end
for i = 0, rate - 1 do
  if redis.call('INCR', ARGV[r + i * 3]) == 1 then redis.call('EXPIRE', ARGV[r + i * 3], ARGV[r + i * 3 + 1]) end
end
for i = 0, touched - 1 do
  redis.call('SADD', ARGV[t + i * 3], ARGV[t + i * 3 + 1])
  redis.call('EXPIREAT', ARGV[t + i * 3], ARGV[t + i * 3 + 2])
end
for i = 0, takes - 1 do
  redis.call('SET', ARGV[k + i * 5], ARGV[k + i * 5 + 4], 'NX')
  redis.call('INCRBY', ARGV[k + i * 5], ARGV[k + i * 5 + 1])
  redis.call('EXPIREAT', ARGV[k + i * 5], ARGV[k + i * 5 + 3])
end
for i = 0, alive - 1 do
  redis.call('ZADD', ARGV[l + i * 4], ARGV[l + i * 4 + 2], ARGV[l + i * 4 + 3])
  -- An hour longer than the one of them that lives the longest: Redis' clock may be another.
  local forgotten = tonumber(ARGV[l + i * 4 + 2]) + 3600
  redis.call('EXPIREAT', ARGV[l + i * 4], forgotten, 'NX')
  redis.call('EXPIREAT', ARGV[l + i * 4], forgotten, 'GT')
end
if record ~= '' then redis.call('XADD', KEYS[2], '*', 'r', record) end
return {'ok'}
"""
"""Decide on a snapshot, commit if nothing moved. Says what stood in the way and then changes nothing."""

RAISE = """
-- KEYS: ready, applied.  ARGV: identity, first seq, last seq, then (key, value, expires_at or 0) triples.
for i = 4, #ARGV, 3 do
  local held = tonumber(redis.call('GET', ARGV[i]) or '0')
  local value = tonumber(ARGV[i + 1])
  if value > held then redis.call('SET', ARGV[i], ARGV[i + 1]) end
  if ARGV[i + 2] ~= '0' then redis.call('EXPIREAT', ARGV[i], ARGV[i + 2]) end
end
local applied = tonumber(redis.call('GET', KEYS[2]) or '-1')
if applied >= tonumber(ARGV[2]) - 1 and applied < tonumber(ARGV[3]) then redis.call('SET', KEYS[2], ARGV[3]) end
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return 1
"""
"""Raise epochs and versions, never lower them: retries and any order end in the same state."""

OPEN = """
-- KEYS: building, ready, applied.  ARGV: nonce, identity, movement.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[3], ARGV[3])
redis.call('SET', KEYS[2], ARGV[2])
redis.call('DEL', KEYS[1])
return 1
"""
"""Declare a rebuilt copy ready, if nothing touched its building mark meanwhile."""

COUNT = """
-- KEYS: counter.  ARGV: seconds.  Returns the count within the window that began with its first.
local n = redis.call('INCR', KEYS[1])
if n == 1 then redis.call('EXPIRE', KEYS[1], ARGV[1]) end
return n
"""
"""Count failures within a window."""

ALL = (COMMIT, RAISE, OPEN, COUNT)


def sha(script: str) -> str:
    """The name under which Redis keeps a loaded script."""
    return sha1(script.encode(), usedforsecurity=False).hexdigest()


COMMIT_SHA, RAISE_SHA, OPEN_SHA, COUNT_SHA = map(sha, ALL)
