-- All facts for the entitlement of one account to one member OUS, read only.
--
-- Binds, each once - mous (database spelling), account, project (null when nobody named one).
-- Each row says in FACT what it speaks of. Columns that a fact does not name are null.
--   asked     the project VALUE was asked for, or none. Never missing: it proves an answer.
--   asa       ASA_OUS or ASA_SCIENCE knows the MOUS, and links it to the project VALUE or to none.
--   block     SCHED_BLOCK_STATUS knows it, and an execution block links it to the project VALUE, or none does.
--             These three also name the project's PI: PI_USERID as ACCOUNT_ID, and the person if there is one.
--   state     its life-cycle state as VALUE, trimmed.
--   account   an account that equals the asked one but for case.
--   delegee   a data delegee (REQUEST_HANDLER_ID) of the project VALUE, and the person if there is one.
--   delivery  DELIVERY_NAME as VALUE and RELEASE_DATE of a delivery of the data, PI_ACCOUNT_ID as
--             REQUEST_HANDLER_ID, and the person if there is one.
--
-- Oracle 12.1 and SQLite 3.40 both take it. Dates are compared by the caller, to whom a row may come twice.
-- The first branch has no null, so that Oracle knows the types. Where two of the archive's tables meet, their columns
-- are qualified, as the real ones have more.
-- KNOWN holds states beside project codes, which are never equal. The key of the state is padded with blanks; they
-- sort before the exclamation mark, so a range finds it, and by its index.
with asked(mous) as (select :mous from dual),
known(fact, code) as (
  select 'asked', :project from dual
   union
  select 'asa', asa_project_code from alma.asa_ous where member_ous_uid = (select mous from asked)
   union
  select 'asa', project_code from alma.asa_science where member_ouss_id = (select mous from asked)
   union
  select 'block', e.obsprojectcode
    from alma.sched_block_status b left join alma.aqua_v_execblock e on e.schedblockuid = b.domain_entity_id
   where b.parent_obs_unit_set_status_id = (select mous from asked)
   union
  select 'state', trim(domain_entity_state)
    from asked join alma.obs_unit_set_status on status_entity_id >= mous and status_entity_id < mous || '!'
),
linked(fact, value, handler, release_date) as (
  select 'delivery', delivery_name, pi_account_id, release_date from alma.asa_delivery_status
   where id in (select delivery_id from alma.asa_delivery_asdm_ous
                 where asdm_uid in (select asdm_uid from alma.asa_science
                                     where member_ouss_id = (select mous from asked)))
   union all
  select 'delegee', project_code, delegee_rh_id, null from alma.dp_delegation
   where delegation_type = 'DATA' and project_code in (select code from known)
)
select l.fact, l.value, account_id, l.handler as request_handler_id,
       firstname, lastname, email, preferredarc, active, l.release_date
  from linked l left join alma.account on request_handler_id = l.handler
 union all
select k.fact, k.code, p.pi_userid, a.request_handler_id,
       a.firstname, a.lastname, a.email, a.preferredarc, a.active, null
  from known k left join alma.asa_project p on p.code = k.code
  left join alma.account a on a.account_id = p.pi_userid
 union all
select 'account', null, account_id, request_handler_id, firstname, lastname, email, preferredarc, active, null
  from alma.account where lower(account_id) = lower(:account)
