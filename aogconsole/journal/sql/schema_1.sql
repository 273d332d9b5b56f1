-- The journal's first schema. Ids come from one sequence (entity), so that a request's can never be taken for a run's.
create table entity (id integer primary key autoincrement, kind text not null);

create table meta (key text primary key, value text not null) without rowid;

create table mail (
    id integer primary key references entity (id),
    source text not null unique,
    message_id text not null,
    sha256 text not null,
    received_at text not null,
    from_address text not null,
    subject text not null,
    result text not null check (result in ('request', 'duplicate', 'note', 'bounce', 'ignored')),
    why text not null,
    request integer,
    parsed text not null
);
create index mail_message_id on mail (message_id);
create index mail_request on mail (request);

create table request (
    id integer primary key references entity (id),
    version integer not null default 1,
    state text not null,
    why text not null default '',
    mail integer not null references mail (id),
    mous text, project text, account text, ticket text,
    received_at text not null,
    verdict text, verdict_why text, facts text,
    checked_at text, query_version text, check_ms integer,
    tries integer not null default 0,
    next_try text,
    position real,
    before_hold text,
    claimed_by text,
    url text
);
create index request_open on request (state) where state <> 'closed';
create index request_key on request (mous, account, ticket);
create index request_ticket on request (ticket);

-- Where `requests --search` looks: three characters or more are found by index.
create view request_words (id, words) as
    select request.id, coalesce(mous, '') || char(10) || coalesce(project, '') || char(10) || coalesce(account, '') || char(10)
        || coalesce(ticket, '') || char(10) || from_address || char(10) || subject
    from request join mail on mail.id = request.mail;
create virtual table request_text using fts5 (text, tokenize = 'trigram');
create trigger request_text_new after insert on request begin insert into request_text (rowid, text) select id, words from request_words where id = new.id; end;
create trigger request_text_changed after update of mous, project, account, ticket on request begin update request_text set text = (select words from request_words where id = new.id) where rowid = new.id; end;

create table check_made (
    id integer primary key autoincrement,
    request integer not null references request (id),
    at text not null,
    day text not null,
    verdict text, why text not null,
    facts text, query_version text, took_ms integer
);
create index check_made_request on check_made (request);

create table run (
    id integer primary key references entity (id),
    version integer not null default 1,
    request integer not null references request (id),
    token text not null unique,
    state text not null check (state in ('starting', 'running', 'succeeded', 'failed', 'unclear', 'lost', 'stopped')),
    why text not null default '',
    project text not null, mous text not null, ticket text not null,
    slot integer,
    boot_id text, node text, host text, workdir text, url text,
    created_at text not null,
    started_at text, ended_at text, exit_status integer,
    milestones text not null default '[]',
    log_bytes integer not null default 0,
    log_lines integer not null default 0,
    last_output_at text,
    longest_silence real not null default 0,
    expected_end text,
    stop_asked_by text,
    deleted_on text,
    kept integer not null default 0,
    keep_wanted integer,
    warned integer not null default 0,
    gone integer not null default 0
);
create index run_keep_asked on run (id) where keep_wanted is not null;
create unique index run_active on run (request) where state in ('starting', 'running');
create index run_request on run (request);
create index run_staged on run (deleted_on) where deleted_on is not null and gone = 0;
create index run_succeeded on run (ended_at) where state = 'succeeded';

create table letter (
    id integer primary key references entity (id),
    version integer not null default 1,
    request integer not null references request (id),
    run integer references run (id),
    kind text not null,
    state text not null check (state in ('draft', 'approved', 'sending', 'sent', 'partly_refused', 'refused', 'ambiguous', 'bounced', 'discarded')),
    why text not null default '',
    draft text not null,
    message_id text unique,
    message blob,
    edited integer not null default 0,
    tries integer not null default 0,
    next_try text,
    created_at text not null,
    sent_at text
);
create unique index letter_live on letter (request) where state in ('draft', 'approved', 'sending');
create index letter_request on letter (request);
create index letter_waiting on letter (state) where state in ('draft', 'approved', 'sending');

create table note (
    id integer primary key autoincrement,
    request integer not null references request (id),
    at text not null,
    who text not null,
    text text not null,
    mail integer references mail (id)
);
create index note_request on note (request);

create table history (
    seq integer primary key,
    at text not null,
    who text not null,
    via text not null,
    verb text not null,
    kind text not null,
    entity integer,
    origin text, target text,
    why text not null,
    data text not null,
    hash text not null
);
create index history_entity on history (entity, seq);
create index history_at on history (at);

create table connection (
    name text primary key,
    ok integer not null,
    detail text not null,
    since text not null
) without rowid;
