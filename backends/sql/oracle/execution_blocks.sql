-- Execution blocks that ended at or after a time, oldest first, read only.
--
-- Bind: since (a date: a column of DATE or TIMESTAMP is compared by its index). A block without an end is no news.
-- Columns: execblockuid, obsprojectcode, endtime. The view may show a block more than once: its latest end counts.
-- Oracle 12.1 and SQLite 3.40 both take it.
select trim(execblockuid) as execblockuid, trim(max(obsprojectcode)) as obsprojectcode, max(endtime) as endtime
  from alma.aqua_v_execblock
 where endtime >= :since
 group by trim(execblockuid)
 order by 3, 1
