-- What one line says of a request: no more than that is read. Which ones, and in what order: views.py.
select request.id, ticket, mous, state, received_at, verdict, why, claimed_by,
    (select max(id) from run where run.request = request.id) as run
