-- Wakes one waiting consumer. Whoever waits looks every second anyway: a bell that nobody hears need not stay.
local function ring(bell)
  if redis.call('ZADD', bell, 0, '1') == 1 then
    redis.call('PEXPIRE', bell, 60000)
  end
end
