-- What one line says of a request: no more than that is read. Which ones, and in what order: views.py.
select request.id, ticket, mous, state, received_at, verdict, why, claimed_by, before_hold,
    (select why from letter where letter.request = request.id and letter.state in ('draft', 'approved', 'sending')) as letter_why,
    case request.state when 'queued' then (
        select count(*) from request as other where other.state <> 'closed' and other.state = 'queued'
            and (other.position, other.id) <= (request.position, request.id)) end as place
