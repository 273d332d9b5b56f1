-- The ALMA archive as a test archive holds it (types as in Oracle; SQLite takes them).
-- Other archives with this schema and other data are used to try the console: rely on no column that is not here.
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

-- one member OUS: two execution blocks, several science rows, one delegee, proprietary
insert into account values('pi1',1,'Ann','Pí','ann@example.org','EU','T'),('del1',2,'Bob','Delegee','bob@example.org','NA','T'),('other',3,'Cy','Other','cy@example.org','EA','T');
insert into dp_delegation values(1,'2012.1.00357.S',1,2,'DATA');
insert into asa_project values('2012.1.00357.S','S','A title','pi1','Pí, Ann');
insert into asa_ous values('uid://A002/X788a57/X29','2012.1.00357.S','uid://A002/X788a57/X29','uid://A002/X788a57/X28');
insert into asa_science values
 ('d1','uid://A002/X788a57/X29','MOUS','2012.1.00357.S','uid://A002/X788a57/X29','uid://A002/X788a57/X28','uid://A002/X7e4988/X1f2','src1'),
 ('d2','uid://A002/X788a57/X29','MOUS','2012.1.00357.S','uid://A002/X788a57/X29','uid://A002/X788a57/X28','uid://A002/X7e4988/X1f2','src2'),
 ('d3','uid://A002/X788a57/X29','MOUS','2012.1.00357.S','uid://A002/X788a57/X29','uid://A002/X788a57/X28','uid://A002/X7e4988/X1f3','src1');
insert into asa_delivery_status values(10,'2012.1.00357.S_uid___A002_X788a57_X29',1,'Y','3000-01-01 00:00:00');
insert into asa_delivery_asdm_ous values(1,'uid://A002/X7e4988/X1f2','2012.1.00357.S_uid___A002_X788a57_X29',10),(2,'uid://A002/X7e4988/X1f3','2012.1.00357.S_uid___A002_X788a57_X29',10);
insert into obs_unit_set_status values('uid://A002/X788a57/X29','X29','Delivered                       ','uid://A002/X788a57/X28','uid://A002/X1/X1');
insert into sched_block_status values('uid://A002/X788a57/X30','uid://A002/X788a57/X30','FullyObserved','uid://A002/X788a57/X29');
insert into aqua_v_execblock values('uid://A002/X7e4988/X1f2','uid://A002/X788a57/X30','uid://A002/X7e4988/X1','2012.1.00357.S','2014-03-01 01:00:00.123','2014-03-01 02:00:00.456','SUCCESS','Pass',1,'Cycle2');
insert into asa_product_files values('uid://A002/X788a57/X29','member.uid___A002_X788a57_X29.README.txt','product','2014-09-01 12:00:00',1000),('uid://A002/X788a57/X29','member.uid___A002_X788a57_X29.src1.fits','science','2014-09-01 12:00:01',1000);
