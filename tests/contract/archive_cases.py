"""What an archive may hold, the question put to it, and the verdict it must give; and statements that are wrong."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

MOUS = "uid://A002/X788a57/X29"
PROJECT = "2012.1.00357.S"
OTHER_PROJECT = "2013.1.00001.S"
DAY = date(2026, 6, 15)

RELEASE = "update asa_delivery_status set release_date = '{} 00:00:00';"
STATE = "update obs_unit_set_status set domain_entity_state = '{}';"
NO_DELEGEES = "delete from dp_delegation;"
NO_DELIVERY = "delete from asa_delivery_status;"
NO_LINK = "delete from asa_ous; delete from asa_science;"
NO_BLOCKS = "delete from aqua_v_execblock;"
OURS_TO_OTHER = "update dp_delegation set project_code = '2013.1.00001.S';"
OTHER_PI = "update asa_delivery_status set pi_account_id = 3;"
SECOND_DELIVERY = (
    "insert into asa_delivery_status values(11, 'x', 1, 'Y', {});"
    "update asa_delivery_asdm_ous set delivery_id = 11 where id = 2;"
)
OTHER_DATA = (
    "insert into asa_delivery_status values(11, 'x', 1, 'Y', '{}');"
    "insert into asa_delivery_asdm_ous values(9, 'uid://A002/X1/X9', 'x', 11);"
)
MANY_ROWS = (
    "insert into asa_science select 'x' || n, asa_ous_id, product_type, project_code, member_ouss_id, group_ouss_id,"
    " asdm_uid, source_name from asa_science, (with c(n) as (select 1 union all select n + 1 from c where n < 400)"
    " select n from c) where dataset_id = 'd1';"
    "insert into asa_delivery_status select * from asa_delivery_status;"
    "insert into asa_delivery_asdm_ous select * from asa_delivery_asdm_ous;"
)
DELEGEES = (
    "insert into account select 'd' || n, 1000 + n, 'First', 'O''Néill ' || n, 'd' || n || '@example.org', 'EU', 'T'"
    " from (with c(n) as (select 1 union all select n + 1 from c where n < {0}) select n from c);"
    "insert into dp_delegation select n, '2012.1.00357.S', 1, 1000 + n, 'DATA'"
    " from (with c(n) as (select 1 union all select n + 1 from c where n < {0}) select n from c);"
)


@dataclass(frozen=True)
class Case:
    """A question to an archive whose base data `sql` has changed, and the answer."""

    name: str
    verdict: str | None
    why: str
    sql: str = ""
    account: str = "other"
    mous: str = MOUS
    project: str | None = PROJECT
    day: date = DAY


CASES = (
    Case("the PI", "entitled", "pi", account="pi1"),
    Case("the PI, no project named", "entitled", "pi", account="pi1", project=None),
    Case("a PI without delegees", "entitled", "pi", NO_DELEGEES, account="pi1"),
    Case("the PI before any delivery row", "entitled", "pi", NO_DELIVERY, account="pi1"),
    Case("the PI of public data is named PI", "entitled", "pi", RELEASE.format("2020-01-01"), account="pi1"),
    Case("a data delegee", "entitled", "delegee", account="del1"),
    Case("a delegee, no project named", "entitled", "delegee", account="del1", project=None),
    Case(
        "a delegation of another type",
        "not_entitled",
        "proprietary",
        "update dp_delegation set delegation_type = 'PROPOSAL';",
        account="del1",
    ),
    Case(
        "a delegation of the type in small letters",
        "not_entitled",
        "proprietary",
        "update dp_delegation set delegation_type = 'data';",
        account="del1",
    ),
    Case("a delegation for another project", "not_entitled", "proprietary", OURS_TO_OTHER, account="del1"),
    Case(
        "a delegation for another project, when nobody names one",
        "not_entitled",
        "proprietary",
        OURS_TO_OTHER,
        account="del1",
        project=None,
    ),
    Case(
        "a delegee who is not the asked account",
        "not_entitled",
        "proprietary",
        "update dp_delegation set delegee_rh_id = 3;",
        account="del1",
    ),
    Case(
        "an account and a delegation without a request handler are not equal",
        "not_entitled",
        "proprietary",
        "update account set request_handler_id = null where account_id = 'other';"
        "update dp_delegation set delegee_rh_id = null;",
    ),
    Case("the last of 300 delegees", "entitled", "delegee", DELEGEES.format(300), account="d300"),
    Case("the last of 2500 delegees", "entitled", "delegee", DELEGEES.format(2500), account="d2500"),
    Case("release halted", "not_entitled", "proprietary"),
    Case("released today", "entitled", "public", RELEASE.format("2026-06-15")),
    Case(
        "released today, later",
        "entitled",
        "public",
        "update asa_delivery_status set release_date='2026-06-15 18:00:00';",
    ),
    Case("released tomorrow", "not_entitled", "proprietary", RELEASE.format("2026-06-16")),
    Case("released long ago", "entitled", "public", RELEASE.format("2015-01-01"), project=None),
    Case("no release date", "not_entitled", "proprietary", "update asa_delivery_status set release_date = null;"),
    Case("no delivery row", "not_entitled", "proprietary", NO_DELIVERY),
    Case(
        "one delivery released, one without a date",
        "not_entitled",
        "proprietary",
        RELEASE.format("2020-01-01") + SECOND_DELIVERY.format("null"),
    ),
    Case(
        "one delivery released, one not yet",
        "not_entitled",
        "proprietary",
        RELEASE.format("2020-01-01") + SECOND_DELIVERY.format("'2027-01-01 00:00:00'"),
    ),
    Case("other data are released", "not_entitled", "proprietary", OTHER_DATA.format("2020-01-01")),
    Case(
        "other data are not released",
        "entitled",
        "public",
        RELEASE.format("2020-01-01") + OTHER_DATA.format("3000-01-01"),
    ),
    Case(
        "many science rows and doubled delivery rows, public",
        "entitled",
        "public",
        RELEASE.format("2020-01-01") + MANY_ROWS,
    ),
    Case("not delivered", "not_delivered", "Verified", STATE.format("Verified"), account="pi1"),
    Case("back in QA3", "not_delivered", "QA3InProgress", STATE.format("QA3InProgress            "), account="del1"),
    Case("almost delivered", "not_delivered", "ReadyToDeliver", STATE.format("ReadyToDeliver"), account="pi1"),
    Case(
        "delivered in small letters is another state",
        "not_delivered",
        "delivered",
        STATE.format("delivered"),
        account="pi1",
    ),
    Case("not entitled comes before not delivered", "not_entitled", "proprietary", STATE.format("Verified")),
    Case(
        "the key of the state is padded",
        "entitled",
        "pi",
        "update obs_unit_set_status set status_entity_id = 'uid://A002/X788a57/X29' || printf('%42s', '');",
        account="pi1",
    ),
    Case(
        "the state of a MOUS whose UID only begins the same",
        None,
        "state_missing",
        "update obs_unit_set_status set status_entity_id = 'uid://A002/X788a57/X290';",
        account="pi1",
    ),
    Case("no state", None, "state_missing", "delete from obs_unit_set_status;", account="pi1"),
    Case("no such account", "invalid_user", "unknown_account", account="nobody"),
    Case("an account that looks like a pattern", "invalid_user", "unknown_account", account="oth_r"),
    Case("an account that differs by case", None, "account_case", account="PI1"),
    Case(
        "two accounts that differ by case",
        "entitled",
        "pi",
        "insert into account values('PI1',77,'X','Y','z@example.org','EU','T');",
        account="pi1",
    ),
    Case("an inactive account", None, "account_inactive", "update account set active = 'F';", account="pi1"),
    Case(
        "an account of unknown activity", None, "account_inactive", "update account set active = null;", account="pi1"
    ),
    Case("an account without e-mail", None, "account_no_email", "update account set email = null;", account="pi1"),
    Case("an account with a blank e-mail", None, "account_no_email", "update account set email = ' ';", account="pi1"),
    Case("no such MOUS", "invalid_mous", "unknown_mous", mous="uid://A001/X1/X1", account="nobody"),
    Case("the group OUS is no MOUS", "invalid_mous", "unknown_mous", mous="uid://A002/X788a57/X28", account="pi1"),
    Case(
        "an execution block is no MOUS", "invalid_mous", "unknown_mous", mous="uid://A002/X7e4988/X1f2", account="pi1"
    ),
    Case("a scheduling block is no MOUS", "invalid_mous", "unknown_mous", mous="uid://A002/X788a57/X30", account="pi1"),
    Case("a MOUS that begins the same", "invalid_mous", "unknown_mous", mous="uid://A002/X788a57/X2", account="pi1"),
    Case(
        "the MOUS in ASA_OUS only",
        "entitled",
        "pi",
        "delete from asa_science; delete from sched_block_status;",
        account="pi1",
    ),
    Case(
        "the MOUS in ASA_SCIENCE only",
        "entitled",
        "pi",
        "delete from asa_ous; delete from sched_block_status;",
        account="pi1",
    ),
    Case(
        "an undelivered MOUS, known by its scheduling block, project by its execution block",
        "not_delivered",
        "Processing",
        NO_LINK + STATE.format("Processing"),
        account="del1",
        project=None,
    ),
    Case(
        "an undelivered MOUS without execution blocks",
        "not_delivered",
        "FullyObserved",
        NO_LINK + NO_BLOCKS + STATE.format("FullyObserved"),
        account="pi1",
    ),
    Case("no linked project, a stranger", "not_entitled", "proprietary", NO_LINK + NO_BLOCKS),
    Case("no linked project, the asked one's PI", None, "project_unconfirmed", NO_LINK + NO_BLOCKS, account="pi1"),
    Case("no project at all", None, "project_unconfirmed", NO_LINK + NO_BLOCKS, account="pi1", project=None),
    Case("another project asked", None, "project_mismatch", account="pi1", project=OTHER_PROJECT),
    Case(
        "another project asked for a MOUS that is not",
        "invalid_mous",
        "unknown_mous",
        mous="uid://A001/X1/X1",
        project=OTHER_PROJECT,
    ),
    Case("another project asked by nobody", None, "project_mismatch", account="nobody", project=OTHER_PROJECT),
    Case(
        "another project asked, of an undelivered MOUS",
        None,
        "project_mismatch",
        NO_LINK,
        account="pi1",
        project=OTHER_PROJECT,
    ),
    Case(
        "two projects",
        None,
        "several_projects",
        "update asa_science set project_code = '2013.1.00001.S' where dataset_id = 'd1';",
        account="pi1",
    ),
    Case(
        "the execution blocks' project does not count where the archive knows better",
        "entitled",
        "pi",
        "update aqua_v_execblock set obsprojectcode = '2013.1.00001.S';",
        account="pi1",
    ),
    Case(
        "the delivery names another PI",
        None,
        "pi_mismatch",
        OTHER_PI,
        account="pi1",
    ),
    Case("the other PI asks", None, "pi_mismatch", OTHER_PI),
    Case(
        "the delivery names another PI of public data",
        "entitled",
        "public",
        RELEASE.format("2020-01-01") + OTHER_PI,
    ),
    Case("the project has no PI, the delivery has", None, "pi_mismatch", "delete from asa_project;"),
    Case(
        "a project that is listed twice",
        "entitled",
        "pi",
        "insert into asa_project select * from asa_project;",
        account="pi1",
    ),
    Case(
        "a project that is listed with two PIs",
        None,
        "pi_mismatch",
        "insert into asa_project select code, type, title, 'del1', pi_name from asa_project;",
        account="pi1",
    ),
    Case(
        "a PI who has no account",
        "not_entitled",
        "proprietary",
        "update asa_project set pi_userid = 'gone'; update asa_delivery_status set pi_account_id = null;",
    ),
    Case(
        "quotes and letters of other alphabets",
        "entitled",
        "pi",
        "update account set lastname = 'O''Néill \"Ж\" 李', firstname = '; drop table account;--';",
        account="pi1",
    ),
)

_MOUS = "(select mous from asked)"
_STATE_KEY = "status_entity_id >= mous and status_entity_id < mous || '!'"
_ACCOUNT = "lower(account_id) = lower(:account)"
MUTATIONS = {
    "the seed's draft: no PI without delegees": (
        "alma.asa_project p on p.code = k.code",
        "alma.dp_delegation g on g.project_code = k.code left join alma.asa_project p on p.code = g.project_code",
    ),
    "scheduling blocks are forgotten": (f"b.parent_obs_unit_set_status_id = {_MOUS}", "1 = 0"),
    "execution blocks are required": ("left join alma.aqua_v_execblock", "join alma.aqua_v_execblock"),
    "ASA_OUS is forgotten": (f"member_ous_uid = {_MOUS}", "1 = 0"),
    "a group OUS is taken for a member": (f"member_ous_uid = {_MOUS}", f"{_MOUS} in (member_ous_uid, group_ous_uid)"),
    "an execution block is taken for a MOUS": (
        f"project_code from alma.asa_science where member_ouss_id = {_MOUS}",
        f"project_code from alma.asa_science where {_MOUS} in (member_ouss_id, asdm_uid)",
    ),
    "the asked project is forgotten": ("'asked', :project", "'asked', substr(:project, 1, 0)"),
    "deliveries of all data": ("where id in", "where 1 = 1 or id in"),
    "undated deliveries are left out": ("where id in", "where release_date is not null and id in"),
    "the delivery's PI is forgotten": ("pi_account_id", "null"),
    "the PI's account is forgotten": ("a.account_id = p.pi_userid", "1 = 0"),
    "case decides": (_ACCOUNT, "account_id = :account"),
    "accounts by pattern": (_ACCOUNT, "account_id like :account"),
    "the padded key is compared as it is": (_STATE_KEY, "status_entity_id = mous"),
    "the states of all MOUSs": (_STATE_KEY, "1 = 1"),
    "the key of the state is compared by its beginning": (_STATE_KEY, "status_entity_id like mous || '%'"),
    "delegations of every type": ("delegation_type = 'DATA' and ", ""),
    "delegations in any letters": ("delegation_type = 'DATA'", "upper(delegation_type) = 'DATA'"),
}
