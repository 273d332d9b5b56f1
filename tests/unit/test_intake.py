"""From a mail to what becomes of it: the corpus with its expected outcomes, and properties over all of it."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aogconsole.ids import AccountId, MousUid, ProjectCode, Ticket
from aogconsole.requests.intake import (
    Attached,
    Bounced,
    Fields,
    Ignored,
    Intake,
    IntakeRules,
    NewRequest,
    Note,
    OwnLetter,
    SameMail,
    SeenMail,
    Unclear,
    classify,
)
from aogconsole.requests.mail import Authentication, parse_mail
from tests.support.known import RULES, MemoryKnown

CORPUS = Path(__file__).parent.parent / "corpora" / "mails"
SEED = Fields(
    MousUid.parse("uid___A001_X133d_X1244"),
    ProjectCode.parse("2012.1.00357.S"),
    AccountId.parse("jdoe"),
    Ticket.parse("15270"),
)


def journal() -> MemoryKnown:
    """Request 1 is open and has letter 1; request 2 was answered with a link; ticket 16000 has ten MOUSs."""
    first = replace(SEED, mous=MousUid.parse("uid___A001_X1_X1"), ticket=Ticket.parse("15000"))
    second = replace(first, mous=MousUid.parse("uid___A001_X2_X2"))
    ten = [
        replace(SEED, mous=MousUid.parse(f"uid___A001_X3_X{number}"), ticket=Ticket.parse("16000"))
        for number in range(1, 10)
    ] + [replace(SEED, mous=MousUid.parse("uid___A001_X3_Xa"), ticket=Ticket.parse("16000"))]
    return MemoryKnown(
        mails={"<request-1@eso.org>": SeenMail(1, 1)},
        letters={"<letter-1@aog>": OwnLetter(1, 1)},
        requests=[first, second, *ten],
        open={(first.mous, first.account, first.ticket): 1},
        answered={(second.mous, second.account, second.ticket): 2},
    )


REQUESTS = [
    "seed", "seed-quoted-subject", "database-spelling", "one-line", "wrapped", "angle-brackets", "lower-case-subject",
    "quoted-printable", "base64-utf16", "shift-jis", "encoded-subject", "folded-subject", "format-flowed",
    "html-beside-plain", "mixed-with-footer", "signature-with-uid", "name-in-parentheses", "crlf", "dot-and-prose",
    "quote-below",
]  # fmt: skip

UNCLEAR = {
    "subject-disagrees": "the subject names uid___A001_X133d_X1245, the text uid___A001_X133d_X1244",
    "subject-without-mous": "the subject names no MOUS",
    "other-subject": "the subject names no MOUS",
    "no-subject": "the subject names no MOUS",
    "empty-body": "the text names no MOUS; the text names no project",
    "two-mous": "more than one UID: uid___A001_X133d_X1244, uid___A001_X133d_X1246",
    "two-users": "more than one user: jdoe, jroe",
    "two-tickets": "more than one ticket",
    "two-projects": "more than one project: 2012.1.00357.S, 2012.1.00358.S",
    "no-ticket": "names no ticket",
    "unfilled-template": "'project' is not a project code",
    "name-and-mail-instead": "beside the user's id there is more: 'for user John Doe jd@uni.example'",
    "calfield": "calibrator fields",
    "non-ascii-uid": r"'uid___A001_X133\u0501_X1244' is not a UID",
    "zero-width-uid": r"'uid___A001_X133d\u200b_X1244' is not a UID",
    "arabic-digits": "is not a helpdesk ticket number",
    "upper-case-uid": "'uid___A001_X133D_X1244' is not a UID",
    "html-only": "HTML only",
    "html-names-another": "the HTML version names another UID: uid___A001_X133d_X9",
    "html-names-another-user": "the HTML version names another user: jroe",
    "second-request-below": "further down it asks for another MOUS: uid___A001_X133d_X77",
    "unknown-charset": "its character set 'x-klingon' is unknown",
    "not-its-charset": "not valid utf-8",
    "damaged-base64": "base64 text is damaged",
    "cut-off": "it ends before its last part does",
    "unlisted-sender": "from an unlisted sender: eve@evil.example",
    "look-alike-sender": "from an unlisted sender: eve@eso.org.evil.example",
    "two-senders": "it has 2 From addresses",
    "two-from-headers": "it has 2 From addresses",
    "quoted-local-part": "its From address cannot be read with certainty",
    "our-own-address": "it was sent from our own address",
    "two-subjects": "more than one subject",
    "forward-inline": "it forwards a mail",
    "forward-outlook": "it forwards a mail",
    "forward-as-part": "it forwards a mail",
    "encloses-a-mail": "it forwards a mail",
    "reply-with-request-text": "a reply that holds request text",
    "asked-again": "asked again: request 2 was answered with a link",
    "eleventh-mous": "more than 10 MOUSs on ticket 16000",
    "header-injection": "the subject names no MOUS",
}

OTHERS: dict[str, Intake] = {
    "reply-to-letter": Note(1, 1, "a reply to our letter"),
    "out-of-office-to-letter": Note(1, 1, "an automatic reply to our letter"),
    "receipt-for-letter": Note(1, 1, "a reply to our letter"),
    "reply-to-request": Note(1, None, "a reply to the request's mail"),
    "bounce": Bounced(1, 1, "not delivered to user@uni.example: 550 5.1.1 no such user"),
    "bounce-delayed": Note(1, 1, "a delivery notice (delayed) user@uni.example: 451 4.4.1 no answer"),
    "bounce-of-another": Ignored("a bounce of no letter of ours"),
    "bounce-plain": Bounced(1, 1, "not delivered to user@uni.example: 550 sorry, no mailbox here by that name."),
    "bounce-exim": Bounced(1, 1, "not delivered to user@uni.example: SMTP error: 550 unknown user"),
    "quoted-only": Ignored("a reply without request text"),
    "quoted-in-other-mail": Ignored("no request"),
    "out-of-office": Ignored("automatic reply"),
    "lunch": Ignored("no request"),
    "own-letter": Ignored("our own letter"),
    "spam-unknown-charset": Ignored("no request"),
    "same-mail": SameMail(1, 1),
    "same-request": Attached(1, "the same MOUS, user and ticket again"),
}

PROPOSED = {
    "forward-inline", "forward-outlook", "forward-as-part", "encloses-a-mail", "unlisted-sender", "two-senders",
    "html-only", "reply-with-request-text", "two-subjects", "calfield", "html-names-another", "unknown-charset",
    "html-names-another-user", "second-request-below",
}  # fmt: skip
"""Unclear mails whose four fields could be read all the same."""


def outcome(name: str) -> Intake:
    """What becomes of a mail of the corpus."""
    return classify(parse_mail((CORPUS / f"{name}.eml").read_bytes()), journal(), RULES)


def test_every_mail_of_the_corpus_has_an_expectation() -> None:
    """The tables above and the folder name the same mails, each once."""
    named = [*REQUESTS, *UNCLEAR, *OTHERS]
    assert sorted(named) == sorted(path.stem for path in CORPUS.glob("*.eml"))


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_in_many_clothes(name: str) -> None:
    """Whatever the encoding, wrapping and spelling, the seed's request is a request with the same fields."""
    assert outcome(name) == NewRequest(SEED)


@pytest.mark.parametrize("name", UNCLEAR)
def test_what_is_not_certain_is_for_a_person(name: str) -> None:
    """Nothing is guessed: the mail is unclear, and a sentence on one safe line says why."""
    result = outcome(name)
    assert isinstance(result, Unclear)
    assert UNCLEAR[name] in result.why
    assert result.why.isprintable()
    if name in PROPOSED:
        assert result.fields == SEED


@pytest.mark.parametrize("name", OTHERS)
def test_other_mails_make_no_request(name: str) -> None:
    """Duplicates, replies, bounces and all other mail: attached, noted, or ignored with a reason."""
    assert outcome(name) == OTHERS[name]


PASS = Authentication("mx.eso.org", "pass", "eso.org")
FAIL = Authentication("mx.eso.org", "fail", "eso.org")


@pytest.mark.parametrize(
    ("results", "why"),
    [
        ([PASS], ""),
        ([PASS, FAIL], ""),
        ([replace(FAIL, server="other"), PASS], ""),
        ([replace(PASS, server="other")], "says nothing of who sent it"),
        ([], "says nothing of who sent it"),
        ([FAIL, PASS], "DMARC fail for eso.org"),
        ([Authentication("mx.eso.org", "", "")], "DMARC missing"),
        ([replace(PASS, domain="evil.example")], "DMARC pass for evil.example"),
    ],
)
def test_the_sender_is_proved_by_the_named_server_only(results: list[Authentication], why: str) -> None:
    """With `authserv` only its topmost result counts, and only for the From domain."""
    mail = replace(parse_mail((CORPUS / "seed.eml").read_bytes()), authentication=tuple(results))
    result = classify(mail, MemoryKnown(), IntakeRules("aog@eso.org", ("*@eso.org",), "mx.eso.org"))
    if why:
        assert isinstance(result, Unclear)
        assert why in result.why
    else:
        assert result == NewRequest(SEED)


def test_after_a_refusal_the_same_is_a_new_request() -> None:
    """A closed request that was not answered with a link does not stand in the way."""
    known = MemoryKnown()
    raw = (CORPUS / "seed.eml").read_bytes()
    assert known.take(parse_mail(raw)) == NewRequest(SEED)
    second = raw.replace(b"<seed@", b"<seed-again@")
    assert known.take(parse_mail(second)) == Attached(1, "the same MOUS, user and ticket again")
    known.open.clear()
    assert known.take(parse_mail(raw.replace(b"<seed@", b"<seed-third@"))) == NewRequest(SEED)


def test_what_exceeds_the_limits_is_never_dropped() -> None:
    """Even a mail that looks like no request is for a person when it could not be read in full."""
    mail = replace(parse_mail((CORPUS / "lunch.eml").read_bytes()), problems=("it is larger than 10 bytes",))
    result = classify(mail, MemoryKnown(), RULES)
    assert result == Unclear(Fields(), "the mail could not be read in full: it is larger than 10 bytes")


CERTAIN = [(CORPUS / f"{name}.eml").read_bytes() for name in ("seed", "same-request", "asked-again", "lunch", "crlf")]
ALIKE = [
    mail.replace(b"Message-ID: <", b"Message-ID: <%d" % copy) if copy < 2 else mail.replace(b"Message-ID", b"X-Id")
    for mail in CERTAIN
    for copy in range(3)
]


@given(st.lists(st.sampled_from(ALIKE), max_size=40), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_order_and_multiplicity_do_not_matter(mails: list[bytes], order: random.Random) -> None:
    """The same mails in any order, any number of times, give the same requests (F6)."""
    shuffled = [*mails, *mails]
    order.shuffle(shuffled)

    def requests(arriving: list[bytes]) -> set[Fields | None]:
        known = MemoryKnown()
        for raw in arriving:
            known.take(parse_mail(raw))
        assert len(known.requests) == len(set(known.requests))
        return set(known.requests)

    assert requests(mails) == requests(shuffled)


@given(st.sampled_from(sorted(CORPUS.glob("*.eml"))), st.integers(0, 5000), st.binary(max_size=6), st.integers(0, 30))
@settings(max_examples=300, deadline=None)
def test_a_mutated_mail_is_read_and_never_asks_for_something_else(path: Path, place: int, put: bytes, cut: int) -> None:
    """After damage at any place a mail still has an outcome; a request's MOUS is named in its subject and its text."""
    raw = path.read_bytes()
    place %= len(raw)
    mail = parse_mail(raw[:place] + put + raw[place + cut :])
    result = classify(mail, journal(), RULES)
    if isinstance(result, NewRequest):
        mous = result.fields.mous
        assert mous
        for text in (mail.subject, mail.own_text):
            assert mous.mail in text or mous.database in text


@given(st.text(max_size=3000), st.text(max_size=200))
@settings(deadline=None)
def test_any_text_has_an_outcome_on_one_safe_line(text: str, subject: str) -> None:
    """Whatever stands in subject and text, the reason is printable and holds no line end."""
    mail = replace(parse_mail((CORPUS / "seed.eml").read_bytes()), own_text=text, subject=subject)
    result = classify(mail, MemoryKnown(), RULES)
    assert not isinstance(result, NewRequest)
    assert getattr(result, "why", "").isprintable()
