-- What the tracking table is asked, for both databases. {...}: see backends/metadata_session.py.

-- name: newest
select max(source_time) from {table} where kind || '' = :kind and source_time <= :until

-- name: unknown
select given.kind, given.uid, given.version
from {rows kind text, uid text, version text, place integer}
where not exists (
    select 1 from {table} as known
    where known.kind = given.kind and known.uid = given.uid and known.version = given.version)
order by given.place

-- name: known
select (
    select known.id from {table} as known
    where known.kind = given.kind and known.uid = given.uid and known.version = given.version)
from {rows kind text, uid text, version text}

-- name: add
insert into {table} (kind, uid, version, project, source_time, state, reason, created_at, finished_at)
select kind, uid, version, project, source_time, state, reason, created_at, finished_at
from {rows kind text, uid text, version text, project text, source_time timestamptz, state text, reason text,
    created_at timestamptz, finished_at timestamptz, place integer}
where true order by place
on conflict (kind, uid, version) do nothing
returning {columns}

-- name: outdated
select {columns} from {table} as older
where state in ('deferred', 'waiting', 'queued', 'failed')
    and (kind, uid) in (select kind, uid from {rows id bigint, kind text, uid text})
    and exists (
        select 1 from {table} as newer
        where newer.kind = older.kind and newer.uid = older.uid and newer.version > older.version
            and (newer.state in ('deferred', 'waiting', 'queued', 'failed')
                or newer.id in (select id from {rows id bigint, kind text, uid text})))
order by id {for update}

-- name: to_judge
select {columns} from {table}
where state = 'deferred' and kind = :kind and id > :after and (not_before is null or not_before <= :now)
order by id limit :most

-- name: hold
select id from {table} where id in (select id from {rows id bigint}) order by id {for update}

-- name: change
update {table} as held set
    project = new_project, state = new_state, attempt = new_attempt, reason = new_reason,
    workflow_id = new_workflow_id, owner = new_owner, lease_until = new_lease_until, not_before = new_not_before,
    queued_at = new_queued_at, started_at = new_started_at, finished_at = new_finished_at,
    first_attempt = new_first_attempt
from {rows new_id bigint, old_state text, old_attempt integer, new_project text, new_state text, new_attempt integer,
    new_reason text, new_workflow_id text, new_owner text, new_lease_until timestamptz, new_not_before timestamptz,
    new_queued_at timestamptz, new_started_at timestamptz, new_finished_at timestamptz, new_first_attempt integer}
where held.id = given.new_id and held.state = given.old_state and held.attempt = given.old_attempt
returning {columns}

-- name: record
insert into reingestion_event (queue, item, at, by, before, after, attempt, why)
select queue, item, at, by, before, after, attempt, why
from {rows queue text, item bigint, at timestamptz, by text, before text, after text, attempt integer, why text,
    place integer}
where true order by place

-- name: sent_events
insert into reingestion_event (queue, item, at, by, before, after, attempt, why)
select :queue, id, :now, :by, state, 'queued', attempt + 1, 'sent'
from {table} where id in (select id from {rows id bigint}) order by id

-- name: sent
update {table} set
    state = 'queued', attempt = attempt + 1, queued_at = :now, not_before = null, workflow_id = null, owner = null,
    lease_until = null, started_at = null, finished_at = null
where id in (select id from {rows id bigint})

-- name: sendable
select {columns} from {table}
where state in ('waiting', 'failed') and coalesce(not_before, {ever}) <= :now
order by coalesce(not_before, {ever}), id limit :most {skip locked}

-- name: sendable_apart
select {columns} from {table}
where state in ('waiting', 'failed') and id in (
    select due.id
    from (
        select id, coalesce(project, '') as project, coalesce(not_before, {ever}) as since,
            row_number() over (partition by coalesce(project, '') order by coalesce(not_before, {ever}), id) as place
        from {table} where state in ('waiting', 'failed') and coalesce(not_before, {ever}) <= :now) as due
    left join (
        select coalesce(project, '') as project, count(*) as taken from {table}
        where state in ('queued', 'launching', 'launch_unknown', 'running')
        group by coalesce(project, '')) as busy on busy.project = due.project
    where due.place <= :per_project - coalesce(busy.taken, 0)
    order by due.since, due.id limit :most)
order by coalesce(not_before, {ever}), id {skip locked}

-- name: lost
select {columns} from {table} where state = 'queued' and queued_at < :before order by queued_at, id limit :most

-- name: due
select not_before from {table} where state in ('waiting', 'failed')
order by coalesce(not_before, {ever}), id limit 1

-- name: taken
select coalesce(project, ''), count(*) from {table}
where state in ('launching', 'launch_unknown', 'running') group by coalesce(project, '')

-- name: others
select coalesce(sum(places), 0) from reingestion_place where queue = :queue and runner <> :runner and until > :now

-- name: release
delete from reingestion_place where queue = :queue and (runner = :runner or until <= :now)

-- name: reserve
insert into reingestion_place (queue, runner, places, until) values (:queue, :runner, :places, :until)

-- name: use
update reingestion_place set places = case when places > :used then places - :used else 0 end
where queue = :queue and runner = :runner

-- name: wanted
select {columns} from {table}
where state = 'queued' and (id, attempt) in (select id, attempt from {rows id bigint, attempt integer})
order by id {for update}

-- name: renew
update {table} set lease_until = :until
where state = 'launching' and owner = :runner and id in (select id from {rows id bigint})

-- name: active
select {columns} from {table}
where state in ('launching', 'launch_unknown', 'running') order by started_at, id

-- name: of_workflow
select {columns} from {table} where workflow_id in (select id from {rows id text}) order by id

-- name: get
select {columns} from {table} where id in (select id from {rows id bigint}) order by id

-- name: items
select {columns} from {table} where {which} order by id desc limit :most

-- name: containing
({find}(lower(uid), :text) > 0 or {find}(replace(replace(lower(uid), '://', '___'), '/', '_'), :text) > 0
    or {find}(lower(coalesce(project, '')), :text) > 0 or {find}(lower(reason), :text) > 0)

-- name: events
select number, item, at, by, before, after, attempt, why from reingestion_event
where queue = :queue and item = :item order by number

-- name: counts
select kind, state, sum(n) from reingestion_count where queue = :queue group by kind, state having sum(n) <> 0

-- name: oldest_waiting
select min(since) from (
    select coalesce((
        select max(at) from reingestion_event
        where queue = :queue and item = waits.id and after = 'waiting'), waits.created_at) as since
    from (select id, created_at from {table} where state = 'waiting' order by id limit 1000) as waits
    union all
    select min(queued_at) from {table} where state = 'queued') as both_kinds

-- name: hours
select {hour}, sum(case when before is null then 1 else 0 end),
    sum(case when after = 'queued' and before <> 'queued' then 1 else 0 end),
    sum(case when after = 'done' then 1 else 0 end), sum(case when after in ('failed', 'dead') then 1 else 0 end)
from reingestion_event where queue = :queue and at >= :since group by 1 order by 1
