-- Answers are what is in an inbox for answers, whose name begins so: core/private-recipients.ts. They are their recipient's
-- alone, not found, not kept, and counted apart as `answers` of the state, as they fill no queue.
local function isForAnswers(recipient)
  return string.sub(recipient, 1, 14) == '%7Breply%7D%3A'
end

local function countAnswers(added)
  redis.call('HINCRBY', KEYS[2], 'answers', added)
end
