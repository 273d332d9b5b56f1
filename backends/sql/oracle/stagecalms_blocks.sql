-- The execution blocks of a member OUS, for the staging command, read only.
--
-- Binds, each once: mous (uid://...), name (the same as uid___...).
-- Columns: execblockuid, in either spelling; qa0status, null where AQUA_V_EXECBLOCK does not say one. A block that was
-- delivered (ASA_SCIENCE, or a delivery named by project and MOUS) counts whatever became of its execution; one that
-- only its scheduling block links to the MOUS has data when its execution's status is SUCCESS, or is not told.
-- Ids may be padded with blanks; they sort before the exclamation mark, so a range finds them, and by an index.
-- Oracle 12.1 and SQLite 3.40 both take it.
with asked(mous, name) as (select :mous, :name from dual),
delivered(asdm) as (
  select replace(replace(trim(s.asdm_uid), 'uid___', 'uid://'), '_', '/')
    from asked join alma.asa_science s on s.member_ouss_id >= asked.mous and s.member_ouss_id < asked.mous || '!'
   where trim(s.member_ouss_id) = asked.mous and s.asdm_uid is not null
   union
  select replace(replace(trim(d.asdm_uid), 'uid___', 'uid://'), '_', '/')
    from asked join alma.asa_ous o on o.member_ous_uid >= asked.mous and o.member_ous_uid < asked.mous || '!'
    join alma.asa_delivery_asdm_ous d on d.deliverable_name = trim(o.asa_project_code) || '_' || asked.name
   where trim(o.member_ous_uid) = asked.mous and d.asdm_uid is not null
)
select distinct trim(e.execblockuid) as execblockuid, trim(e.qa0status) as qa0status
  from asked join alma.sched_block_status b
    on b.parent_obs_unit_set_status_id >= asked.mous and b.parent_obs_unit_set_status_id < asked.mous || '!'
  join alma.aqua_v_execblock e on e.schedblockuid = b.domain_entity_id
 where trim(b.parent_obs_unit_set_status_id) = asked.mous
   and (trim(e.status) = 'SUCCESS' or trim(e.status) is null) and e.execblockuid is not null
 union
select delivered.asdm, trim(e.qa0status)
  from delivered left join alma.aqua_v_execblock e
    on e.execblockuid >= delivered.asdm and e.execblockuid < delivered.asdm || '!' and trim(e.execblockuid) = delivered.asdm
 order by 1, 2
