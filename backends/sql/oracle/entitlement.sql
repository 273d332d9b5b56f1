-- All facts for the entitlement of one account to one member OUS, in one statement, read only.
--
-- Binds, each once - mous (database spelling), account, project (null when nobody named one).
-- Every row says in FACT what it speaks of. Columns that a fact does not name are null.
--   asked     ACCOUNT_ID, PROJECT_CODE as asked. Exactly one row, the proof that the rest is an answer.
--   mous      SOURCE knows the MOUS, and links PROJECT_CODE (or null) to it. No such row - no such MOUS.
--   account   every account that equals the asked one but for case.
--   pi        PI_USERID (as ACCOUNT_ID) of PROJECT_CODE in ASA_PROJECT, and the person if there is one.
--   delegee   REQUEST_HANDLER_ID holds a delegation of DELEGATION_TYPE for PROJECT_CODE, and the person.
--   delivery  a delivery of the data, RELEASE_DATE and PI_ACCOUNT_ID (as REQUEST_HANDLER_ID), and the person.
--   state     DOMAIN_ENTITY_STATE of the MOUS, trimmed.
-- Oracle 12.1 and SQLite 3.40 both take it. Dates are compared by the caller.
with asked as (
  select cast(:mous as varchar2(64)) as mous,
         cast(:account as varchar2(64)) as account,
         cast(:project as varchar2(64)) as project
    from dual
),
known as (
  select 'asa_ous' as source, o.asa_project_code as project_code
    from asked join alma.asa_ous o on o.member_ous_uid = asked.mous
   union
  select 'asa_science', s.project_code
    from asked join alma.asa_science s on s.member_ouss_id = asked.mous
   union
  select 'sched_block_status', e.obsprojectcode
    from asked
    join alma.sched_block_status b on b.parent_obs_unit_set_status_id = asked.mous
    left join alma.aqua_v_execblock e on e.schedblockuid = b.domain_entity_id
),
projects as (
  select project_code from known
   union
  select project from asked
),
deliveries as (
  select distinct d.pi_account_id, d.release_date
    from asked
    join alma.asa_science s on s.member_ouss_id = asked.mous
    join alma.asa_delivery_asdm_ous o on o.asdm_uid = s.asdm_uid
    join alma.asa_delivery_status d on d.id = o.delivery_id
),
delegations as (
  select distinct g.project_code, g.delegee_rh_id, g.delegation_type
    from projects join alma.dp_delegation g on g.project_code = projects.project_code
)
select 'asked' as fact,
       cast(null as varchar2(32)) as source,
       project as project_code,
       account as account_id,
       cast(null as number) as request_handler_id,
       cast(null as varchar2(64)) as firstname,
       cast(null as varchar2(64)) as lastname,
       cast(null as varchar2(512)) as email,
       cast(null as varchar2(32)) as preferredarc,
       cast(null as varchar2(1)) as active,
       cast(null as varchar2(32)) as delegation_type,
       cast(null as date) as release_date,
       cast(null as varchar2(64)) as domain_entity_state
  from asked
 union all
select 'mous', source, project_code, null, null, null, null, null, null, null, null, null, null
  from known
 union all
select 'account', null, null, a.account_id, a.request_handler_id, a.firstname, a.lastname, a.email, a.preferredarc,
       a.active, null, null, null
  from asked join alma.account a on lower(a.account_id) = lower(asked.account)
 union all
select 'pi', null, p.code, p.pi_userid, a.request_handler_id, a.firstname, a.lastname, a.email, a.preferredarc,
       a.active, null, null, null
  from projects
  join alma.asa_project p on p.code = projects.project_code
  left join alma.account a on a.account_id = p.pi_userid
 union all
select 'delegee', null, g.project_code, a.account_id, g.delegee_rh_id, a.firstname, a.lastname, a.email,
       a.preferredarc, a.active, g.delegation_type, null, null
  from delegations g left join alma.account a on a.request_handler_id = g.delegee_rh_id
 union all
select 'delivery', null, null, a.account_id, d.pi_account_id, a.firstname, a.lastname, a.email, a.preferredarc,
       a.active, null, d.release_date, null
  from deliveries d left join alma.account a on a.request_handler_id = d.pi_account_id
 union all
-- the range lets Oracle use the index of the CHAR-padded key, trim decides
select 'state', null, null, null, null, null, null, null, null, null, null, null, trim(s.domain_entity_state)
  from asked
  join alma.obs_unit_set_status s
    on s.status_entity_id >= asked.mous and s.status_entity_id < asked.mous || '!'
   and trim(s.status_entity_id) = asked.mous
