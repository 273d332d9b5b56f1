"""Reading mails: headers, parts, texts, bounces, limits."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aogconsole.requests import mime, quoting
from aogconsole.requests.html import html_to_text
from aogconsole.requests.mail import Authentication, MailLimits, ParsedMail, parse_mail, salvage

HEAD = (
    b'From: Helper <helper@eso.org>\nTo: aog@eso.org, "A, B" <ab@eso.org>\nCc: x: c@eso.org;, broken\n'
    b"Message-ID: <m@eso.org>\n"
)


def test_headers() -> None:
    """Addresses, ids and names; what cannot be read with certainty is left out."""
    mail = parse_mail(HEAD + b"In-Reply-To: <b@x>\nReferences: <a@x> <b@x>\n\ntext\n")
    assert (mail.key, mail.message_id) == ("<m@eso.org>", "<m@eso.org>")
    assert (mail.from_address, mail.from_name, mail.from_count) == ("helper@eso.org", "Helper", 1)
    assert (mail.to, mail.cc) == (("aog@eso.org", "ab@eso.org"), ("c@eso.org",))
    assert mail.answers == ("<b@x>", "<a@x>")
    assert (mail.text, mail.problems, mail.text_problem) == ("text\n", (), "")


def test_without_a_message_id_the_bytes_are_the_key() -> None:
    """Line ends do not count: the same mail from a file and over IMAP has the same key."""
    raw = b"From: a@eso.org\nSubject: x\n\ntext\n"
    key = parse_mail(raw).key
    assert key.startswith("sha256:")
    assert parse_mail(raw.replace(b"\n", b"\r\n")).key == key
    assert parse_mail(raw + b"more\n").key != key


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("a@eso.org", ["a@eso.org"]),
        ("a@eso.org (comment, with (nested) <b@x>), c@eso.org", ["a@eso.org", "c@eso.org"]),
        ('"b@x, evil" <a@eso.org>', ["a@eso.org"]),
        ("group: a@eso.org, b@eso.org;", ["a@eso.org", "b@eso.org"]),
        ("undisclosed-recipients:;", []),
        ("=?utf-8?q?a=40eso=2Eorg?=", [""]),
        ("<a@eso.org> <b@x>", [""]),
        ("a@eso.org <b@x>", ["b@x"]),
        ("<@route:a@eso.org>", [""]),
        ("a@eso.org\r\nBcc: b@x", [""]),
        ("a@b@eso.org", [""]),
        ("<a@eso.org", [""]),
        ('"a@eso.org', [""]),
        ("a@éso.org", [""]),
        ("(" * 5000 + "a@eso.org", [""]),
        ("", []),
    ],
)
def test_mailboxes(header: str, found: list[str]) -> None:
    """An address is read with certainty or not at all; an encoded word is never an address."""
    assert [box.address for box in mime.mailboxes(header)] == found


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("=?utf-8?q?Gr=C3=BC=C3=9Fe?=", "Grüße"),
        ("=?utf-8?b?R3I=?= =?utf-8?b?w7w=?=\n =?UTF-8?B?w58=?= x", "Grüß x"),
        ("=?utf-8?q?=C3?= =?utf-8?q?=BC?=", "ü"),
        ("=?iso-8859-1?q?=FC?= =?utf-8?q?=C3=BC?=", "üü"),
        ("a =?utf-8?q?b=0D=0ABcc:_c?=", "a b Bcc: c"),
        ("=?x-none?q?abc?=", "=?x-none?="),
        ("=?utf-8?b?!!!?=", ""),
        ("=?utf-8*en?q?a?=", "a"),
        ("=?unicode_escape?q?=5Cx41?=", "=?unicode_escape?="),
        ("plain  text", "plain  text"),
    ],
)
def test_encoded_words(raw: str, text: str) -> None:
    """RFC 2047, on one line whatever is encoded; unknown character sets are not guessed."""
    assert mime.decode_words(raw) == text


def test_format_flowed() -> None:
    """Soft line ends are joined within the same depth of quoting; a signature's line is never joined."""
    head = HEAD + b"Content-Type: text/plain; format=flowed; delsp=%s\n\n"
    flowed = b"one \ntwo\n>quo \n>ted\n >stuffed\n-- \nsig\n"
    assert parse_mail(head % b"no" + flowed).text == "one two\n> quo ted\n>stuffed\n-- \nsig\n"
    assert parse_mail(head % b"yes" + b"on \ne\n").text == "one\n"


def test_html_as_text() -> None:
    """Blocks become lines, quotes get their mark, scripts and styles are left out, broken markup is kept."""
    page = "<style>x</style><p>a&amp;b<br>c</p><blockquote>q<blockquote>r</blockquote></blockquote><b>b</b>o 1 < 2"
    assert html_to_text(page) == "a&b\nc\n\n> q\n> > r\n\nbo 1 < 2"
    mail = parse_mail(HEAD + b"Content-Type: text/html\n\nuid___A001_<b>X1</b>_X2 <script>uid___A001_X9_X9</script>")
    assert "uid___A001_X1_X2" in mail.html_text
    assert mail.text_problem == "its text is HTML only"


@pytest.mark.parametrize(
    ("header", "result"),
    [
        ("mx.eso.org; dmarc=pass header.from=eso.org", ("mx.eso.org", "pass", "eso.org")),
        ("MX.eso.org 1; spf=pass; DMARC=Pass (p=none) Header.From=ESO.org", ("mx.eso.org", "pass", "eso.org")),
        ("mx; spf=pass (dmarc=pass header.from=eso.org)", ("mx", "", "")),
        ("mx (x; dmarc=pass header.from=eso.org", ("mx", "", "")),
        ("mx; dmarc=pass header.from=a; dmarc=fail header.from=b", ("mx", "fail", "b")),
        ('mx; x="(" ; dmarc=fail header.from=eso.org; y=")"', ("mx", "fail", "eso.org")),
        ("", ("", "", "")),
    ],
)
def test_authentication_results(header: str, result: tuple[str, str, str]) -> None:
    """RFC 8601 as far as DMARC goes; what stands in a comment counts for nothing, and the worst result counts."""
    mail = parse_mail(b"Authentication-Results: " + header.encode() + b"\n\n")
    assert mail.authentication == (Authentication(*result),)


@pytest.mark.parametrize(
    ("text", "own"),
    [
        ("a\n> b\nc", "a\nc"),
        ("a\n-- \nb", "a"),
        ("a\nOn Monday, X\n<x@y> wrote:\n> b\nc", "a\nc"),
        ("a\nAm 1.1. schrieb X:\nb\nc", "a"),
        ("a\nLe lundi, X a écrit :\n> b", "a"),
        ("a\n-----Original Message-----\nb", "a"),
        ("a\n________________________________\nFrom: X\nSent: Monday\nb", "a\n________________________________"),
        ("a\n*Von:* X\n*Gesendet:* Montag\nb", "a"),
        ("From here on:\nb", "From here on:\nb"),
    ],
)
def test_own_text(text: str, own: str) -> None:
    """Quoted lines, quoted and forwarded mails and the signature are not what the sender wrote."""
    assert quoting.own_text(text) == own


@pytest.mark.parametrize("subject", ["Re: x", "AW: x", '"Re[2]: x"', "[EXT] SV: x"])
def test_replies_by_subject(subject: str) -> None:
    """Marks of replies, in several languages."""
    assert quoting.is_reply(subject)
    assert not quoting.is_forward(subject)


@pytest.mark.parametrize("subject", ["Fwd: x", "FW: Re: x", "WG: x", "TR: x", "RV: x", "I: x"])
def test_forwards_by_subject(subject: str) -> None:
    """Marks of forwards, in several languages."""
    assert quoting.is_forward(subject)
    assert not quoting.is_reply(subject)


def test_limits_become_sentences() -> None:
    """Each limit that is exceeded is named, and what was read within it is kept."""
    limits = MailLimits(size=2000, headers=500, parts=3, depth=2, text=10)
    nested = b"".join(b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (n, n) for n in range(4))
    parts = b"Content-Type: multipart/mixed; boundary=b\n\n" + b"--b\n\nx\n" * 9 + b"--b--\n"
    cases = {
        "it is larger than 2000 bytes": HEAD + b"\n" + b"x" * 3000,
        "its headers are longer than 500 bytes": HEAD + b"X: y\n" * 200 + b"\nx",
        "it has more than 3 parts": HEAD + parts,
        "its parts are nested more than 2 deep": HEAD + nested,
        "its text is longer than 10 characters": HEAD + b"\n" + b"x" * 11,
    }
    for sentence, raw in cases.items():
        mail = parse_mail(raw, limits)
        assert sentence in mail.problems
        assert mail.message_id == "<m@eso.org>"
    assert parse_mail(HEAD, limits, size=5000).problems == ("it is larger than 2000 bytes",)
    assert parse_mail(HEAD, limits, size=1500).problems == (f"only {len(HEAD)} of its 1500 bytes could be read",)


def test_salvage_keeps_what_the_headers_say() -> None:
    """A mail that could not be read otherwise is still known by sender, subject and Message-ID."""
    mail = salvage(HEAD + b"Subject: x\n\n" + b"y" * 100_000, 200_000, "reading it took longer than 8 s")
    assert (mail.key, mail.from_address, mail.subject) == ("<m@eso.org>", "helper@eso.org", "x")
    assert (mail.problems, mail.size, mail.text) == (("reading it took longer than 8 s",), 200_000, "")


FRAGMENTS = st.one_of(
    st.binary(max_size=60),
    st.sampled_from(
        [
            b"\n", b"\r\n", b"\n\n", b"\r", b"\0", b"--b\n", b"--b--\n", b"From: ", b"Subject: ", b"=?utf-8?b?", b"?=",
            b"Content-Type: multipart/mixed; boundary=b\n", b"Content-Type: message/rfc822\n", b"Action: \x1c\n",
            b"Content-Type: multipart/report; boundary=b\n", b"Content-Type: message/delivery-status\n",
            b"Content-Transfer-Encoding: base64\n", b"Content-Type: text/plain; charset=utf-7; format=flowed\n",
            b"Content-Type: text/html\n", b"+2AA-", b"<blockquote>", b"&#xd800;", b"charset*=x''\0",
            b"Authentication-Results: (",
            b"On x wrote:\n", b"Message-ID: <a@b>\n", b"X-Failed-Recipients: ", b"(", b'"', b"\\", b"<", b",",
        ]
    ),
)  # fmt: skip


@given(st.lists(FRAGMENTS, max_size=40).map(b"".join))
@settings(max_examples=500, deadline=None)
def test_any_bytes_are_read_without_raising(raw: bytes) -> None:
    """Whatever comes, there is a ParsedMail that JSON and UTF-8 can hold and that comes back the same."""
    mail = parse_mail(raw)
    document = json.dumps(mail.to_json(), ensure_ascii=False)
    document.encode("utf-8")
    assert ParsedMail.from_json(json.loads(document)) == mail
    assert "\n" not in mail.subject
    assert mail.key
