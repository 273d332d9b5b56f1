-- Requests with what belongs to each: the newest run, letters, notes. Which ones, and in what order: views.py.
select request.*,
    (select max(id) from run where run.request = request.id) as run,
    (select json_group_array(id) from letter where letter.request = request.id) as letters,
    (select json_group_array(json_object('at', at, 'who', who, 'text', text)) from note where note.request = request.id) as notes
