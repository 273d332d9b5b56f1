-- What the screen's list says of requests, given as a JSON array of ids. Their places in the queue: boards.py.
select request.id, request.version, ticket, mous, project, account, request.state, received_at, verdict, request.why, claimed_by, before_hold,
    (select max(id) from run where run.request = request.id) as run,
    (select slot from run where run.request = request.id and run.state in ('starting', 'running')) as slot,
    live.state as live_state, live.why as live_why,
    case when checked_at is null and request.state not in ('received', 'checking')
        then (select mail.why from mail where mail.id = request.mail) end as doubt,
    (select max(id) from letter where letter.request = request.id) as letter
from json_each(?) as wanted join request on request.id = wanted.value
    left join letter as live on live.request = request.id and live.state in ('draft', 'approved', 'sending')
