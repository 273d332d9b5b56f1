-- What the workflows write, for both databases. {...}: see backends/metadata_session.py.

-- name: know_by_block
insert into alma_ouses (mous_uid, project) values (:mous, :project)
on conflict (mous_uid) do update set project = coalesce(excluded.project, alma_ouses.project)

-- name: know_by_calibration
insert into alma_ouses (mous_uid, project) values (:mous, :project)
on conflict (mous_uid) do update set project = coalesce(alma_ouses.project, excluded.project)

-- name: take_mark
update execution_blocks
set calibration_status = (select calibration_status from alma_ouses where mous_uid = :mous)
where uid = :uid returning calibration_status

-- name: take
insert into workflow_commands (workflow_id, site, workflow, uid, metadata, taken_at)
values (:id, :site, :workflow, :uid, :metadata, :now)
on conflict (workflow_id) do nothing

-- name: command
select workflow_id, site, workflow, uid, metadata, owner, complete, reason, told_at from workflow_commands
where workflow_id = :id

-- name: begin
update workflow_commands set owner = :owner where workflow_id = :id and owner is null and ended_at is null

-- name: complete
update workflow_commands set ended_at = :now, complete = true, reason = :reason
where workflow_id = :id and ended_at is null

-- name: failed
update workflow_commands set ended_at = :now, complete = false, reason = :reason
where workflow_id = :id and ended_at is null

-- name: told
update workflow_commands set told_at = :now where workflow_id = :id and ended_at is not null

-- name: open
select workflow_id, site, workflow, uid, metadata, owner, complete, reason, told_at from workflow_commands
where site = :site and told_at is null order by taken_at, workflow_id
