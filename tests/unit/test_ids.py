"""Identifiers and the sanitizer: the border that everything from outside passes."""

from __future__ import annotations

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aogconsole.errors import InvalidId
from aogconsole.ids import AccountId, MousUid, ProjectCode, Ticket
from aogconsole.text import clean, clean_lines, decode


def test_both_spellings_of_a_uid_are_one() -> None:
    """The mail's and the database's spelling name the same MOUS."""
    mail, database = MousUid.parse("uid___A001_X133d_X1244"), MousUid.parse("uid://A001/X133d/X1244")
    assert mail == database
    assert (str(mail), mail.database) == ("uid___A001_X133d_X1244", "uid://A001/X133d/X1244")


@pytest.mark.parametrize(
    "text",
    ["", "uid___A001_X133D_X1244", "uid://A001_X1_X2", "uid___A001_X1", "uid___A001_X01_X2", "uid___A001_X1_X2\n",
     " uid___A001_X1_X2", "uid___A001_X1_X\u0661", "uid___A000_X1_X2", "-uid___A001_X1_X2", "uid___A001_X1_X2x"],
)  # fmt: skip
def test_what_is_no_uid_is_refused(text: str) -> None:
    """Full match, ASCII, lower-case digits, no leading zeros."""
    with pytest.raises(InvalidId):
        MousUid.parse(text)


@pytest.mark.parametrize(
    "code", ["2012.1.00357.S", "2011.0.00016.SV", "2016.A.00012.T", "2017.1.00886.L", "2016.1.01404.V"]
)
def test_real_project_codes_are_read(code: str) -> None:
    """Cycle digit or letter, one of S T V L P, several letters for observatory projects."""
    assert str(ProjectCode.parse(code)) == code


@pytest.mark.parametrize(
    "code", ["2012.1.357.S", "2012.1.00357.X", "2012.1.00357.s", "2012.1.00357.S ", "٢012.1.00357.S"]
)
def test_what_is_no_project_code_is_refused(code: str) -> None:
    """`\\d` would take Arabic digits."""
    with pytest.raises(InvalidId):
        ProjectCode.parse(code)


def test_a_ticket_loses_its_hash_sign() -> None:
    """Unquoted, `#15270` is a comment of the shell: it must never get there."""
    assert str(Ticket.parse("#15270")) == str(Ticket.parse("15270")) == "15270"
    for wrong in ("", "0", "015270", "15270\n", "15 270", "##1", "1" * 13):
        with pytest.raises(InvalidId):
            Ticket.parse(wrong)


def test_an_account_id_is_a_login_name() -> None:
    """Up to 32 characters, never beginning with a dash."""
    assert str(AccountId.parse("pi_x.1@uni")) == "pi_x.1@uni"
    for wrong in ("", "-x", "a" * 33, "a b", "a;b", "pí"):
        with pytest.raises(InvalidId):
            AccountId.parse(wrong)


def test_the_sanitizer_knows_every_unsafe_character() -> None:
    """Exactly Unicode's controls, formats, line and paragraph separators and surrogates become visible."""
    for code in range(sys.maxunicode + 1):
        character = chr(code)
        unsafe = unicodedata.category(character) in {"Cc", "Cf", "Zl", "Zp", "Cs"}
        changed = clean(character) != character
        assert changed == unsafe or (changed and unicodedata.category(character) == "Cn"), hex(code)


@given(st.binary())
def test_whatever_a_program_prints_is_safe_to_show(output: bytes) -> None:
    """No escape, bell or other control byte is left; line ends and tabs stay in text of many lines."""
    shown = clean_lines(decode(output))
    assert all(
        character.isprintable() or character in "\n\t" or unicodedata.category(character) in {"Zs", "Cn", "Co"}
        for character in shown
    )
    assert "\n" not in clean(decode(output))
