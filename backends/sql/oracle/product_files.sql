-- The product files of a member OUS, each once, read only.
--
-- Bind: mous, once. Its id may be padded with blanks; they sort before the exclamation mark, so a range finds it, and
-- by its index.
with asked(mous) as (select :mous from dual)
select distinct f.ngas_file_id, trim(f.file_class) as file_class, f.creation_date, f.stored_size
  from asked join alma.asa_product_files f on f.asa_ous_id >= mous and f.asa_ous_id < mous || '!'
 where trim(f.asa_ous_id) = mous and f.ngas_file_id is not null
 order by 1, 3
