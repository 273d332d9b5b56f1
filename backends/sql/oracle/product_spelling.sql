-- How the archive spells the ids of member OUSs that it pads with blanks, read only.
--
-- Bind: mous, which stands for a list of up to 500. It looks at the whole table: only those are asked for whose files
-- were not found by the plain id.
select distinct asa_ous_id from alma.asa_product_files where trim(asa_ous_id) in (:mous)
