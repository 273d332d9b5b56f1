"""From the mailed request to the letter, over real SSH, real Oracle Net and real Maildirs, by the command alone."""

from __future__ import annotations

import email
import email.policy
import json
from email.message import EmailMessage
from typing import Any

from tests.support.desk import MOUS, PROJECT, URL, Desk, request_mail

ARCHIVE = """
insert into account values('late',9,'La','Te','late@example.org','EU','T');
insert into asa_project values('2019.1.00001.S','S','Public','late','Te, La');
insert into asa_science values
 ('p1','uid://A001/X1/X1','MOUS','2019.1.00001.S','uid://A001/X1/X1','uid://A001/X1/X0','uid://A002/X1/Xe1','s');
insert into asa_delivery_status values(20,'2019.1.00001.S_uid___A001_X1_X1',9,'Y','2020-01-01 00:00:00');
insert into asa_delivery_asdm_ous values(20,'uid://A002/X1/Xe1','2019.1.00001.S_uid___A001_X1_X1',20);
insert into obs_unit_set_status values('uid://A001/X1/X1','X1','Delivered','uid://A001/X1/X0','uid://A001/X1/Xf');
insert into asa_science values
 ('p2','uid://A001/X2/X1','MOUS','2019.1.00001.S','uid://A001/X2/X1','uid://A001/X2/X0','uid://A002/X2/Xe1','s');
insert into obs_unit_set_status values('uid://A001/X2/X1','X1','ReadyForReview    ','uid://A001/X2/X0','uid://A001/X2/Xf');
"""
OTHER = "2019.1.00001.S"
PUBLIC, UNDELIVERED = "uid___A001_X1_X1", "uid___A001_X2_X1"


def read(raw: bytes) -> EmailMessage:
    """A letter as a mail reader has it."""
    return email.message_from_bytes(raw, policy=email.policy.default)


def letter_of(desk: Desk, request: dict[str, Any]) -> EmailMessage:
    """The one letter of a request, as filed."""
    (ident,) = request["letters"]
    return read(desk.call("letter", ident, "--eml").stdout)


def test_one_mail_in_one_letter_out(desk: Desk) -> None:
    """The thinnest whole path: entitled, staged, and the link goes to the address from the archive."""
    desk.deliver(request_mail())
    desk.serve_until_idle()
    (request,) = desk.json("requests")
    assert (request["state"], request["verdict"], request["verdict_why"]) == ("closed", "entitled", "pi")
    (run,) = desk.json("runs")
    assert (run["state"], run["exit_status"], run["node"], run["slot"]) == ("succeeded", 0, "arcp9", "A")
    assert request["url"] == run["url"]
    assert run["url"].startswith(URL)
    host_log = desk.host.run_log(run["token"])
    assert desk.call("log", run["id"], "--raw").stdout == host_log
    assert run["log_bytes"] == len(host_log)
    (raw,) = desk.filed()
    letter = read(raw)
    assert (letter["To"], letter["Subject"]) == (
        "ann@example.org",
        f"Re: ALMA: REQUEST FOR CALIBRATED DATA MOUS {MOUS}",
    )
    assert {one.addr_spec for one in letter["Cc"].addresses} == {"helper@eso.org", "dpetry@eso.org"}
    assert letter.get_content().replace("\r\n", "\n").startswith(
        f"Your calibrated data is ready for download from\n{run['url']}\n\nIt will be deleted 28 days from now.\n"
    )  # fmt: skip
    assert letter["In-Reply-To"] == f"<{MOUS}.pi1.15270@eso.org>"
    (staged,) = desk.json("staged")
    assert (staged["run"], staged["days_left"], staged["kept"]) == (run["id"], 28, False)
    assert desk.json("history", "--verify")["ok"]


def test_every_verdict_and_every_outcome(desk: Desk) -> None:
    """PI, delegee, public; each refusal; failed, unclear in two ways: states, letters and runs are right."""
    desk.archive.load(ARCHIVE)
    wanted = {
        "101": ({"account": "pi1"}, "closed", "entitled", "pi", "link"),
        "102": ({"account": "del1"}, "closed", "entitled", "delegee", "link"),
        "103": ({"mous": PUBLIC, "project": OTHER, "account": "other"}, "closed", "entitled", "public", "link"),
        "104": ({"account": "other"}, "closed", "not_entitled", None, "not_entitled"),
        "105": ({"account": "nobody"}, "closed", "invalid_user", None, "invalid_user"),
        "106": ({"mous": "uid___A001_X9_X9"}, "closed", "invalid_mous", None, "invalid_mous"),
        "107": ({"mous": UNDELIVERED, "project": OTHER, "account": "late"}, "closed", "not_delivered",
                "ReadyForReview", "not_delivered"),
        "108": ({"project": "2013.1.00357.S"}, "unclear", None, "project_mismatch", None),
        "190": ({}, "held", "entitled", "pi", "expert"),
        "191": ({"account": "del1"}, "unclear", "entitled", "delegee", None),
        "192": ({"account": "del1", "project": PROJECT}, "unclear", "entitled", "delegee", None),
    }  # fmt: skip
    desk.deliver(*(request_mail(**{"ticket": ticket, **given}) for ticket, (given, *_) in wanted.items()))
    desk.serve_until_idle()
    found, letters = desk.requests(), {one["id"]: one for one in desk.json("letters")}
    for ticket, (_, state, verdict, why, kind) in wanted.items():
        request = found[ticket]
        assert (request["state"], request["verdict"]) == (state, verdict), request
        if why:
            assert request["verdict_why"] == why
        assert [letters[ident]["kind"] for ident in request["letters"]] == ([kind] if kind else [])
        assert all(letters[ident]["state"] == "sent" for ident in request["letters"])
        assert (request["next_action"] is None) == (state == "closed")
    refusal = letter_of(desk, found["104"])
    assert refusal["To"] == "helper@eso.org"
    text = refusal.get_content().replace("\r\n", "\n")
    assert text.startswith("NOT ENTITLED\n\n> Dear AOG,\n> please create the calibrated MS")
    expert = letter_of(desk, found["190"])
    assert expert["To"] == "dpetry@eso.org"
    assert found["190"]["why"] == "staging failed, and the expert was told"
    log = desk.host.run_log(desk.json("run", found["190"]["run"])["token"]).decode()
    assert f"{desk.host.command} {PROJECT} {MOUS} 190\n" in expert.get_content().replace("\r\n", "\n")
    assert log.splitlines()[-1] in expert.get_content()
    assert {one["state"] for one in desk.json("runs")} == {"succeeded", "failed", "unclear"}
    assert len(desk.filed()) == len(letters) == 8
    assert desk.json("history", "--verify")["ok"]


def test_every_kind_of_duplicate_and_of_mail_that_is_no_request(desk: Desk) -> None:
    """The same mail, the same request while open, after a refusal, after a link; replies, outsiders, others."""
    desk.configure(policy="ask")
    first = request_mail(message_id="<first@eso.org>")
    desk.deliver(first)
    desk.deliver(first)
    desk.deliver(request_mail(message_id="<again@eso.org>"))
    desk.deliver(request_mail(ticket="2", sender="stranger@example.org"))
    desk.deliver(b"From: a@eso.org\r\nSubject: lunch?\r\nMessage-ID: <lunch@eso.org>\r\n\r\nAt noon.\r\n")
    desk.serve_until_idle()
    results = [(one["result"], one["request"]) for one in desk.json("mails")]
    (one, two) = desk.json("requests")
    assert results == [
        ("request", one["id"]),
        ("duplicate", one["id"]),
        ("duplicate", one["id"]),
        ("request", two["id"]),
        ("ignored", None),
    ]
    assert (one["state"], one["next_action"]) == ("entitled", "stage")
    assert one["why"] is None, "asking twice changes nothing of what is known of the request"
    assert two["state"] == "unclear"
    assert "stranger@example.org" in two["why"]


def test_policy_ask_waits_for_the_operator(desk: Desk) -> None:
    """Nothing is staged or sent unasked; each verb does its step."""
    desk.configure(policy="ask")
    desk.deliver(request_mail(), request_mail(account="other", ticket="2"))
    desk.serve_until_idle()
    found = desk.requests()
    assert (found["15270"]["state"], found["2"]["state"]) == ("entitled", "refused")
    assert desk.filed() == []
    desk.call("stage", found["15270"]["id"])
    desk.call("refuse", found["2"]["id"])
    desk.serve_until_idle()
    found = desk.requests()
    assert (found["15270"]["state"], found["2"]["state"]) == ("staged", "closed")
    (letter,) = found["15270"]["letters"]
    desk.call("send", letter)
    desk.serve_until_idle()
    assert desk.requests()["15270"]["state"] == "closed"
    assert len(desk.filed()) == 2


def test_an_archive_that_is_down_is_unknown_and_asked_again(desk: Desk) -> None:
    """Never a refusal: unclear with the reason, and the request goes on by itself once the archive answers."""
    given = desk.archive.settings()
    desk.configure("auto", "forced", 0, **{given.dsn: "127.0.0.1:1/ALMA"})
    desk.deliver(request_mail())
    desk.serve_until_idle()
    (request,) = desk.json("requests")
    assert (request["state"], request["verdict"], request["next_action"]) == ("unclear", "unknown", "recheck")
    assert request["next_try"]
    assert desk.json("check", MOUS, "pi1", expect=4)["verdict"] == "unknown"
    desk.configure()
    with desk.serving():
        desk.wait(lambda: desk.json("requests")[0]["state"] == "closed")
    assert len(desk.filed()) == 1


def test_a_refused_login_is_not_tried_until_the_account_is_locked(desk: Desk) -> None:
    """Six mails at once, one failed log-in; later mails and retries bring none: the account's lock must not come
    nearer."""
    desk.archive.login_error = 1017
    desk.deliver(request_mail(), *(request_mail(ticket=f"1{number}") for number in range(5)))
    with desk.serving():
        desk.wait(lambda: desk.requests().get("15270", {}).get("state") == "unclear")
        desk.deliver(request_mail(ticket="2"))
        found = desk.wait(lambda: desk.requests().get("2", {}).get("state") == "unclear" and desk.requests())
    assert "restart the engine" in found["2"]["why"]
    assert desk.archive.logins == 1


def test_what_is_composed_for_a_ticket_is_taken_in_whole(desk: Desk) -> None:
    """Several mails on one stream, from `compose` to `ingest`: a request for each, and none swallowed by another."""
    words = ("--project", PROJECT, "--account", "pi1", "--ticket", "15270", "--sender", "helper@eso.org")
    stream = desk.call("compose", "--mous", MOUS, "--mous", PUBLIC, *words).stdout
    told = json.loads(desk.call("ingest", "-", "--json", stdin=stream).stdout)
    assert [(one["file"], one["state"]) for one in told] == [("-", "received")] * 2
    assert [one["mous"] for one in desk.json("requests")] == [MOUS, PUBLIC]
