-- Member OUSs with a product file created at or after a time, oldest first, read only.
--
-- Bind: since (a date). Columns: asa_ous_id, creation_date: the latest of all files of the member OUS, which is also
-- the latest of the new ones.
-- Oracle 12.1 and SQLite 3.40 both take it.
select trim(asa_ous_id) as asa_ous_id, max(creation_date) as creation_date
  from alma.asa_product_files
 where creation_date >= :since
 group by trim(asa_ous_id)
 order by 2, 1
