-- What the workflows fill. Columns are our own design; all but keys may be missing, for others write here too.
create table alma_ouses (
    mous_uid text primary key,
    project text,
    calibration_status text check (calibration_status in ('Calibrated', 'Do Not Calibrate')),
    calibration_version text,
    marked_at text,
    first_seen text not null default (strftime('%Y-%m-%dT%H:%M:%f000Z', 'now'))
);

create table execution_blocks (
    uid text primary key,
    project text,
    project_uid text,
    session_uid text,
    mous_uid text,
    scheduling_block_uid text,
    started text,
    ended text,
    telescope text,
    array_name text,
    antenna_count integer,
    qa0 text,
    aborted integer,
    calibration_status text check (calibration_status in ('Calibrated', 'Do Not Calibrate')),
    ingested_at text
);
create index execution_blocks_of_mous on execution_blocks (mous_uid);

create table execution_block_antennas (
    execution_block text not null references execution_blocks (uid) on delete cascade,
    number integer not null,
    name text,
    type text,
    diameter real,
    station text,
    primary key (execution_block, number)
);

create table execution_block_bands (
    execution_block text not null references execution_blocks (uid) on delete cascade,
    band text not null,
    primary key (execution_block, band)
);

create table execution_block_sources (
    execution_block text not null references execution_blocks (uid) on delete cascade,
    number integer not null,
    name text,
    longitude real,
    latitude real,
    frame text,
    primary key (execution_block, number)
);

create table execution_block_scans (
    execution_block text not null references execution_blocks (uid) on delete cascade,
    scan integer not null,
    started text,
    ended text,
    source text,
    primary key (execution_block, scan)
);

create table execution_block_scan_intents (
    execution_block text not null references execution_blocks (uid) on delete cascade,
    scan integer not null,
    intent text not null,
    primary key (execution_block, scan, intent)
);

create table execution_block_subscans (
    execution_block text not null references execution_blocks (uid) on delete cascade,
    scan integer not null,
    subscan integer not null,
    intent text,
    field text,
    started text,
    ended text,
    primary key (execution_block, scan, subscan)
);

create table calibrations (
    mous_uid text primary key,
    version text,
    project text,
    science_files integer,
    files integer,
    bytes integer,
    ingested_at text
);

create table calibration_files (
    mous_uid text not null references calibrations (mous_uid) on delete cascade,
    ngas_file_id text not null,
    file_class text,
    created text,
    bytes integer,
    primary key (mous_uid, ngas_file_id)
);

create table calibration_execution_blocks (
    mous_uid text not null references calibrations (mous_uid) on delete cascade,
    execution_block text not null,
    primary key (mous_uid, execution_block)
);

-- Start commands that a site's consumer has taken: each is run once, and its end is told.
create table workflow_commands (
    workflow_id text primary key,
    site text not null,
    workflow text not null,
    uid text not null,
    metadata text,
    taken_at text not null,
    owner text,
    ended_at text,
    complete integer,
    reason text,
    told_at text
);
create index workflow_commands_open on workflow_commands (site) where told_at is null;
