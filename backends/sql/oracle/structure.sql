-- Where execution blocks belong, read only.
--
-- Bind: uid, which stands for a list of up to 500. A block may come more than once.
-- Oracle 12.1 and SQLite 3.40 both take it.
select e.execblockuid, e.schedblockuid, e.sessionuid, e.obsprojectcode, e.starttime, e.endtime, e.qa0status,
       b.parent_obs_unit_set_status_id as mous
  from alma.aqua_v_execblock e left join alma.sched_block_status b on b.domain_entity_id = e.schedblockuid
 where e.execblockuid in (:uid)
