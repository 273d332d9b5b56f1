-- All facts for the entitlement of one account to one member OUS, read only.
--
-- Binds, each once - mous (database spelling), account, project (null when nobody named one).
-- Each row says in FACT what it speaks of. Columns that a fact does not name are null.
--   asked     the project VALUE was asked for, or none. Exactly one row, which proves an answer.
--   asa       ASA_OUS or ASA_SCIENCE knows the MOUS, and links it to the project VALUE or to none.
--   block     SCHED_BLOCK_STATUS knows it, and an execution block links it to the project VALUE, or none does.
--   state     its life-cycle state as VALUE, trimmed.
--   account   an account that equals the asked one but for case.
--   pi        PI_USERID as ACCOUNT_ID of the project VALUE, and the person if there is one.
--   delegee   a data delegee (REQUEST_HANDLER_ID) of the project VALUE, and the person if there is one.
--   delivery  DELIVERY_NAME as VALUE and RELEASE_DATE of a delivery of the data, PI_ACCOUNT_ID as
--             REQUEST_HANDLER_ID, and the person if there is one.
--
-- Oracle 12.1 and SQLite 3.40 both take it. Dates are compared by the caller.
-- The first branch has no null, so that Oracle knows the types. Columns are qualified, as the real tables have more.
-- KNOWN holds states beside project codes, which are never equal. The key of the state is padded with blanks; they
-- sort before the exclamation mark, so a range finds it, and by its index.
with asked as (select :mous as mous, :account as login, :project as project from dual),
known as (
  select 'asked' as fact, project as value from asked
   union
  select 'asa', o.asa_project_code from asked join alma.asa_ous o on o.member_ous_uid = mous
   union
  select 'asa', s.project_code from asked join alma.asa_science s on s.member_ouss_id = mous
   union
  select 'block', e.obsprojectcode
    from asked join alma.sched_block_status b on b.parent_obs_unit_set_status_id = mous
    left join alma.aqua_v_execblock e on e.schedblockuid = b.domain_entity_id
   union
  select 'state', trim(s.domain_entity_state)
    from asked join alma.obs_unit_set_status s on s.status_entity_id >= mous and s.status_entity_id < mous || '!'
)
select 'delivery' as fact, d.delivery_name as value, a.account_id, d.pi_account_id as request_handler_id,
       a.firstname, a.lastname, a.email, a.preferredarc, a.active, d.release_date
  from asked join alma.asa_science s on s.member_ouss_id = mous
  join alma.asa_delivery_asdm_ous o on o.asdm_uid = s.asdm_uid
  join alma.asa_delivery_status d on d.id = o.delivery_id
  left join alma.account a on a.request_handler_id = d.pi_account_id
 union
select 'account', null, a.account_id, a.request_handler_id,
       a.firstname, a.lastname, a.email, a.preferredarc, a.active, null
  from asked join alma.account a on lower(a.account_id) = lower(login)
 union
select 'pi', p.code, p.pi_userid, a.request_handler_id,
       a.firstname, a.lastname, a.email, a.preferredarc, a.active, null
  from known join alma.asa_project p on p.code = known.value
  left join alma.account a on a.account_id = p.pi_userid
 union
select 'delegee', g.project_code, a.account_id, g.delegee_rh_id,
       a.firstname, a.lastname, a.email, a.preferredarc, a.active, null
  from known join alma.dp_delegation g on g.project_code = known.value
  left join alma.account a on a.request_handler_id = g.delegee_rh_id
 where g.delegation_type = 'DATA'
 union
select fact, value, null, null, null, null, null, null, null, null from known
