-- What is kept beside the tracking tables, for both databases. {...}: see backends/metadata_session.py.

-- name: value
select value from reingestion_meta where key = :key

-- name: set_value
insert into reingestion_meta (key, value) values (:key, :value)
on conflict (key) do update set value = excluded.value

-- name: count_up
insert into reingestion_meta (key, value) values (:key, '1')
on conflict (key) do update set value = cast(cast(reingestion_meta.value as bigint) + 1 as text)

-- name: woken
select key, value from reingestion_meta where key in ('woken.loader', 'woken.note', 'woken.queue')

-- name: note
insert into reingestion_note (key, value, at) values (:key, :value, :at)
on conflict (key) do update set value = excluded.value, at = excluded.at

-- name: notes
select key, value, at from reingestion_note order by key

-- name: marks
select mous_uid, calibration_status, calibration_version from alma_ouses
where mous_uid in (select id from {rows id text})

-- name: mark
insert into alma_ouses (mous_uid, calibration_status, calibration_version, marked_at)
values (:mous, :status, :version, :now)
on conflict (mous_uid) do update set calibration_status = excluded.calibration_status,
    calibration_version = excluded.calibration_version, marked_at = excluded.marked_at
    where coalesce(alma_ouses.calibration_version, '') {c} <= excluded.calibration_version
returning mous_uid

-- name: mark_blocks
update execution_blocks set calibration_status = :status where mous_uid = :mous
