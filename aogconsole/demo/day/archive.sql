-- The sample day's archive, on SQLite. Project codes and UIDs are of real data, as public sources name them; where those
-- name no project or execution block of a MOUS, it and all people are ours. Dates count from the day of the start.
create table account(account_id VARCHAR2(32), request_handler_id NUMBER, firstname VARCHAR2(64), lastname VARCHAR2(64), email VARCHAR2(512), preferredarc VARCHAR2(32), active VARCHAR2(1));
create table dp_delegation(id NUMBER, project_code VARCHAR2(64), pi_rh_id NUMBER, delegee_rh_id NUMBER, delegation_type VARCHAR2(32));
create table asa_project(code VARCHAR2(64), type VARCHAR2(16), title VARCHAR2(256), pi_userid VARCHAR2(32), pi_name VARCHAR2(256));
create table asa_ous(asa_ous_id VARCHAR2(64), asa_project_code VARCHAR2(64), member_ous_uid VARCHAR2(64), group_ous_uid VARCHAR2(64));
create table asa_science(dataset_id VARCHAR2(128), asa_ous_id VARCHAR2(64), product_type VARCHAR2(16), project_code VARCHAR2(64), member_ouss_id VARCHAR2(64), group_ouss_id VARCHAR2(64), asdm_uid VARCHAR2(64), source_name VARCHAR2(256));
create table asa_product_files(asa_ous_id VARCHAR2(64), ngas_file_id VARCHAR2(256), file_class VARCHAR2(32), creation_date TIMESTAMP, stored_size NUMBER);
create table asa_delivery_status(id NUMBER, delivery_name VARCHAR2(256), pi_account_id NUMBER, qa2_passed VARCHAR2(1), release_date DATE);
create table asa_delivery_asdm_ous(id NUMBER, asdm_uid VARCHAR2(64), deliverable_name VARCHAR2(256), delivery_id NUMBER);
create table obs_unit_set_status(status_entity_id CHAR(64), domain_entity_id VARCHAR2(64), domain_entity_state CHAR(32), parent_obs_unit_set_status_id VARCHAR2(64), obs_project_id VARCHAR2(64));
create table sched_block_status(status_entity_id VARCHAR2(64), domain_entity_id VARCHAR2(64), domain_entity_state VARCHAR2(32), parent_obs_unit_set_status_id VARCHAR2(64));
create table aqua_v_execblock(execblockuid VARCHAR2(64), schedblockuid VARCHAR2(64), sessionuid VARCHAR2(64), obsprojectcode VARCHAR2(64), starttime TIMESTAMP, endtime TIMESTAMP, status VARCHAR2(32), qa0status VARCHAR2(32), execfraction NUMBER, almabuild VARCHAR2(64));

insert into account values
 ('mkowalska',101,'Małgorzata','Kowalska','m.kowalska@astro.example','EU','T'),
 ('jnunez',102,'José','Núñez de la Peña','jose.nunez@observatorio.example','NA','T'),
 ('tbjorns',103,'Þórdís','Björnsdóttir','thordis@hi.example','EU','T'),
 ('ytanaka',104,'裕子','田中','y.tanaka@tenmon.example','EA','T'),
 ('lschmidt',105,'Lena','Schmidt','lena.schmidt@uni.example','EU','T'),
 ('mferrari',106,'Marco','Ferrari','marco@osservatorio.example','EU','T'),
 ('ngupta',107,'Nisha','Gupta','nisha.gupta@iit.example','EA','T'),
 ('sdubois',108,'Séverine','Dubois','s.dubois@obs.example','EU','T'),
 ('pnovak',109,'Petr','Novák','petr.novak@asu.example','EU','T'),
 -- what a hostile user could put into a name
 ('sobrien',110,'Sinéad',char(27)||']0;owned'||char(7)||'O''Brien [bold red]PI[/]'||char(27)||'[2J','sinead@dias.example','EU','T');
insert into asa_project values
 ('2018.1.00526.S','S','Ices in the youngest discs','mkowalska','Kowalska, Małgorzata'),
 ('2012.1.00357.S','S','A cold outflow at high resolution','jnunez','Núñez de la Peña, José'),
 ('2017.1.00886.L','L','A survey of nearby star-forming discs','ytanaka','田中, 裕子'),
 ('2024.1.00422.S','S','Dust polarisation across a filament','ngupta','Gupta, Nisha'),
 ('2021.1.01582.S','S','Masers around evolved stars','mferrari','Ferrari, Marco'),
 ('2016.1.00004.S','S','Gas in a quiescent galaxy','sdubois','Dubois, Séverine'),
 ('2016.1.00007.S','S','Total power mapping of a cloud','sobrien','O''Brien, Sinéad'),
 ('2011.0.00101.S','S','A debris disc in Cycle 0','pnovak','Novák, Petr'),
 ('2017.1.00727.S','S','Deuterium in hot corinos','sdubois','Dubois, Séverine');
insert into dp_delegation values
 (1,'2012.1.00357.S',102,103,'DATA'),
 (2,'2018.1.00526.S',101,109,'DATA');

create temp table mous(id, project, uid, above, state, released);
insert into mous values
 (1,'2018.1.00526.S','uid://A001/X133d/X1eef','uid://A001/X133d/X1eed','Delivered',date('now','+5 months')),
 (2,'2012.1.00357.S','uid://A002/X788a57/X29','uid://A002/X788a57/X28','Delivered','3000-01-01'),
 (3,'2012.1.00357.S','uid://A001/X11f/X9c','uid://A001/X11f/X9b','Delivered','3000-01-01'),
 (4,'2017.1.00886.L','uid://A001/X1284/X265f','uid://A001/X1284/X265e','Delivered',date('now','+1 month')),
 (5,'2017.1.00886.L','uid://A001/X1284/X136d','uid://A001/X1284/X136c','Delivered',date('now','+1 month')),
 (6,'2017.1.00886.L','uid://A001/X1284/X1373','uid://A001/X1284/X1372','Delivered',date('now','+1 month')),
 (7,'2024.1.00422.S','uid://A001/X3788/Xb407','uid://A001/X3788/Xb406','Delivered',date('now','+11 months')),
 (8,'2021.1.01582.S','uid://A001/X159a/X6b','uid://A001/X159a/X6a','ReadyForReview',null),
 (9,'2016.1.00004.S','uid://A001/X879/Xea','uid://A001/X879/Xe9','Delivered',date('now','-4 years')),
 (10,'2016.1.00007.S','uid://A001/X879/X8f1','uid://A001/X879/X8f0','Delivered',date('now','-3 days')),
 (11,'2011.0.00101.S','uid://A001/X74/X29','uid://A001/X74/X28','Delivered',date('now','-9 years')),
 (12,'2017.1.00727.S','uid://A001/X1296/X675','uid://A001/X1296/X674','Delivered',date('now','+2 months'));
create temp table block(mous, uid);
insert into block values
 (1,'uid://A002/Xd6ebab/Xd773'),
 (2,'uid://A002/X7e4988/X1f2'),
 (3,'uid://A002/X6444ba/X1b1'),
 (4,'uid://A002/Xc7111c/X3979'),(4,'uid://A002/Xc7111c/X409e'),(4,'uid://A002/Xc7111c/X86a7'),(4,'uid://A002/Xc72427/X2dfe'),
 (5,'uid://A002/Xcd07af/X20e'),
 (6,'uid://A002/Xcf92df/X4e8e'),(6,'uid://A002/Xd09670/X3f8d'),
 (7,'uid://A002/X11f3a5a/X2c7'),
 (8,'uid://A002/Xf4f5f7/X1c9e'),
 (9,'uid://A002/Xb87877/X47a0'),
 (10,'uid://A002/Xb8e115/X1f82'),(10,'uid://A002/Xb8e115/X2839'),(10,'uid://A002/Xb8e115/Xed6'),
 (11,'uid://A002/X2f146f/X6f'),(11,'uid://A002/X30a93d/X43e'),
 (12,'uid://A002/Xc845c0/X35a5'),(12,'uid://A002/Xc8592e/X57b3');
create temp table source(name);
insert into source values('target'),('phase calibrator');

insert into asa_ous select uid, project, uid, above from mous;
insert into asa_science
 select block.rowid || name, mous.uid, 'MOUS', project, mous.uid, above, block.uid, name
   from mous join block on mous = id join source;
insert into asa_delivery_status
 select id, project || '_' || replace(replace(uid, '://', '___'), '/', '_'), request_handler_id, 'Y', released || ' 00:00:00'
   from mous join asa_project on code = project join account on account_id = pi_userid where state = 'Delivered';
insert into asa_delivery_asdm_ous
 select block.rowid, block.uid, delivery_name, mous from block join asa_delivery_status on id = mous;
insert into obs_unit_set_status
 select uid, project || '/' || id, state || '          ', above, 'uid://A001/X1/X' || id from mous;
insert into sched_block_status select uid || 'b', uid || 'b', 'FullyObserved', uid from mous;
insert into aqua_v_execblock
 select block.uid, mous.uid || 'b', null, project, null, null, 'SUCCESS', 'Pass', 1, null
   from mous join block on mous = id;
-- one that has not passed: it is not delivered, and its run says that it is left out
insert into aqua_v_execblock values
 ('uid://A002/Xc72427/X3184','uid://A001/X1284/X265fb',null,'2017.1.00886.L',null,null,'SUCCESS','SemiPass',1,null);
drop table mous;
drop table block;
drop table source;
