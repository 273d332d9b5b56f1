-- The tracking tables, their history, and what the loader, the runners and the console share. Our own design.
-- Times are text, ISO 8601 in UTC with microseconds, so that they sort.
create table reingestion_meta (key text primary key, value text not null) without rowid;
insert into reingestion_meta values ('woken.queue', '0'), ('woken.note', '0'), ('woken.loader', '0');

-- Rows by kind and state, kept by the triggers below.
create table reingestion_count (
    queue text not null, kind text not null, state text not null, n integer not null,
    primary key (queue, kind, state)
) without rowid;

create table alma_reingestion_queue (
    id integer primary key autoincrement,
    kind text not null check (kind in ('execution_block', 'calibration')),
    uid text not null,
    version text not null default '',
    project text,
    source_time text,
    state text not null default 'waiting' check (state in ('deferred', 'waiting', 'queued', 'launching',
        'launch_unknown', 'running', 'done', 'failed', 'dead', 'do_not_calibrate', 'dropped')),
    attempt integer not null default 0 check (attempt >= 0),
    reason text not null default '',
    workflow_id text,
    owner text,
    lease_until text,
    not_before text,
    created_at text not null default (strftime('%Y-%m-%dT%H:%M:%f000Z', 'now')),
    queued_at text,
    started_at text,
    finished_at text,
    first_attempt integer not null default 0,
    unique (kind, uid, version)
);
create index alma_source on alma_reingestion_queue (kind || '', source_time);
create index alma_state on alma_reingestion_queue (state, id);
create index alma_deferred on alma_reingestion_queue (kind, id) where state = 'deferred';
create index alma_sendable on alma_reingestion_queue (coalesce(not_before, ''), id) where state in ('waiting', 'failed');
create index alma_queued on alma_reingestion_queue (queued_at, id) where state = 'queued';
create index alma_active on alma_reingestion_queue (project) where state in ('launching', 'launch_unknown', 'running');
create index alma_workflow on alma_reingestion_queue (workflow_id) where workflow_id is not null;

create trigger alma_counted_insert after insert on alma_reingestion_queue begin
    insert into reingestion_count values ('alma', new.kind, new.state, 1)
        on conflict (queue, kind, state) do update set n = n + 1;
    update reingestion_meta set value = value + 1 where key = 'woken.queue';
end;
create trigger alma_counted_update after update of kind, state on alma_reingestion_queue
when old.state <> new.state or old.kind <> new.kind begin
    update reingestion_count set n = n - 1 where queue = 'alma' and kind = old.kind and state = old.state;
    insert into reingestion_count values ('alma', new.kind, new.state, 1)
        on conflict (queue, kind, state) do update set n = n + 1;
    update reingestion_meta set value = value + 1 where key = 'woken.queue';
end;
create trigger alma_counted_delete after delete on alma_reingestion_queue begin
    update reingestion_count set n = n - 1 where queue = 'alma' and kind = old.kind and state = old.state;
    update reingestion_meta set value = value + 1 where key = 'woken.queue';
end;

create table vlba_reingestion_queue (
    id integer primary key autoincrement,
    kind text not null check (kind in ('execution_block', 'calibration')),
    uid text not null,
    version text not null default '',
    project text,
    source_time text,
    state text not null default 'waiting' check (state in ('deferred', 'waiting', 'queued', 'launching',
        'launch_unknown', 'running', 'done', 'failed', 'dead', 'do_not_calibrate', 'dropped')),
    attempt integer not null default 0 check (attempt >= 0),
    reason text not null default '',
    workflow_id text,
    owner text,
    lease_until text,
    not_before text,
    created_at text not null default (strftime('%Y-%m-%dT%H:%M:%f000Z', 'now')),
    queued_at text,
    started_at text,
    finished_at text,
    first_attempt integer not null default 0,
    unique (kind, uid, version)
);
create index vlba_source on vlba_reingestion_queue (kind || '', source_time);
create index vlba_state on vlba_reingestion_queue (state, id);
create index vlba_deferred on vlba_reingestion_queue (kind, id) where state = 'deferred';
create index vlba_sendable on vlba_reingestion_queue (coalesce(not_before, ''), id) where state in ('waiting', 'failed');
create index vlba_queued on vlba_reingestion_queue (queued_at, id) where state = 'queued';
create index vlba_active on vlba_reingestion_queue (project) where state in ('launching', 'launch_unknown', 'running');
create index vlba_workflow on vlba_reingestion_queue (workflow_id) where workflow_id is not null;

create trigger vlba_counted_insert after insert on vlba_reingestion_queue begin
    insert into reingestion_count values ('vlba', new.kind, new.state, 1)
        on conflict (queue, kind, state) do update set n = n + 1;
    update reingestion_meta set value = value + 1 where key = 'woken.queue';
end;
create trigger vlba_counted_update after update of kind, state on vlba_reingestion_queue
when old.state <> new.state or old.kind <> new.kind begin
    update reingestion_count set n = n - 1 where queue = 'vlba' and kind = old.kind and state = old.state;
    insert into reingestion_count values ('vlba', new.kind, new.state, 1)
        on conflict (queue, kind, state) do update set n = n + 1;
    update reingestion_meta set value = value + 1 where key = 'woken.queue';
end;
create trigger vlba_counted_delete after delete on vlba_reingestion_queue begin
    update reingestion_count set n = n - 1 where queue = 'vlba' and kind = old.kind and state = old.state;
    update reingestion_meta set value = value + 1 where key = 'woken.queue';
end;

create table reingestion_event (
    number integer primary key autoincrement,
    queue text not null,
    item integer not null,
    at text not null,
    by text not null,
    before text,
    after text not null,
    attempt integer not null,
    why text not null
);
create index event_of_item on reingestion_event (queue, item, number);
create index event_at on reingestion_event (queue, at);

-- Places that runners have reserved before they take messages.
create table reingestion_place (
    queue text not null,
    runner text not null,
    places integer not null,
    until text not null,
    primary key (queue, runner)
) without rowid;

create table reingestion_note (key text primary key, value text not null, at text not null) without rowid;
