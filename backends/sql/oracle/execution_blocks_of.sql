-- The execution blocks of a member OUS, read only.
--
-- Bind: mous, once. Its id may be padded with blanks; they sort before the exclamation mark, so a range finds it, and
-- by its index.
with asked(mous) as (select :mous from dual)
select distinct e.execblockuid
  from asked join alma.sched_block_status b
    on b.parent_obs_unit_set_status_id >= mous and b.parent_obs_unit_set_status_id < mous || '!'
  join alma.aqua_v_execblock e on e.schedblockuid = b.domain_entity_id
 where trim(b.parent_obs_unit_set_status_id) = mous
 order by 1
