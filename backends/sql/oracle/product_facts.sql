-- What the checks of new calibrations need to know, read only.
--
-- Bind: mous, which stands for a list of up to 500 of them.
-- Each row says in FACT what it speaks of: `science`: the MOUS has files, and FILES of that class; `script`: a file
-- VALUE that may be a custom calibration script (whoever asked looks at the case of its letters); `project`: its VALUE.
-- The class is compared exactly, without the blanks that may pad it. Oracle 12.1 and SQLite 3.40 both take it.
with product(mous, file_class, ngas_file_id) as (
  select asa_ous_id, trim(file_class), ngas_file_id from alma.asa_product_files where asa_ous_id in (:mous)
)
select 'science' as fact, mous, '-' as value, sum(case when file_class = 'science' then 1 else 0 end) as files
  from product group by mous
 union all
select distinct 'script', mous, ngas_file_id, 1
  from product where file_class = 'script' and ngas_file_id like '%scriptFor%Cal%'
 union all
select distinct 'project', member_ous_uid, asa_project_code, 0
  from alma.asa_ous where member_ous_uid in (select trim(mous) from product)
 union all
select distinct 'project', member_ouss_id, project_code, 0
  from alma.asa_science where member_ouss_id in (select trim(mous) from product)
