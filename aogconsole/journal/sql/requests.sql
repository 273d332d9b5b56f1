-- Requests with what belongs to each: the newest run, letters, notes. Which ones, and in what order: views.py.
select request.*,
    (select why from letter where letter.request = request.id and letter.state in ('draft', 'approved', 'sending')) as letter_why,
    case request.state when 'queued' then (
        select count(*) from request as other where other.state <> 'closed' and other.state = 'queued'
            and (other.position, other.id) <= (request.position, request.id)) end as place,
    (select max(id) from run where run.request = request.id) as run,
    (select group_concat(id) from letter where letter.request = request.id) as letters,
    (select nullif(json_group_array(json_object('at', at, 'who', who, 'text', text)), '[]') from note
        where note.request = request.id) as notes
