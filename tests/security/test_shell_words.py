"""Words on their way to the staging host: through real shells, hostile ones never beyond the check."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from aogconsole.errors import InvalidId
from aogconsole.ids import MousUid, ProjectCode, Ticket
from aogconsole.staging.remote import render_aogremote

SHELLS = [["dash"], ["bash", "--posix"]]
TOKEN = "0123456789abcdef0123456789abcdef"
WORDS = ["start", TOKEN, "2012.1.00357.S", "uid___A002_X788a57_X29", "15270"]
TREE = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

hostile = st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=40
) | st.sampled_from(
    [
        "#15270",
        "$(touch owned)",
        "`touch owned`",
        ";touch owned",
        "*",
        "-rf",
        "--root",
        "a b",
        "\n",
        "'",
        '"',
        "\\",
        "~",
        "${IFS}",
        "15270\n",
        "١٥٢٧٠",
    ]
)


@pytest.fixture(scope="module", params=SHELLS, ids=lambda shell: shell[0])
def host(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], Path]:
    """A shell that runs aogremote, whose staging command is not there, and the account's home."""
    home = tmp_path_factory.mktemp("home")
    (home / "aogremote").write_text(render_aogremote(command="/no/such/stagecalms.sh"))
    return [*request.param, str(home / "aogremote")], home


def ask(
    host: tuple[list[str], Path], words: Sequence[str], original: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run aogremote with words of its own, or with those a client sent to the forced command."""
    program, home = host
    environment = {"HOME": str(home), "PATH": "/usr/bin:/bin"} | (
        {} if original is None else {"SSH_ORIGINAL_COMMAND": original}
    )
    return subprocess.run(
        [*program, *words], env=environment, cwd=home, capture_output=True, text=True, errors="replace", check=False
    )


def refused(host: tuple[list[str], Path], words: Sequence[str]) -> None:
    """One line, exit status 2, nothing done."""
    answer = ask(host, words)
    assert (answer.returncode, answer.stdout) == (2, "")
    assert answer.stderr.count("\n") == 1
    assert untouched(host[1])


def untouched(home: Path) -> bool:
    """Nothing was made but what an honest start that finds no staging command makes."""
    return {path.name for path in home.iterdir()} <= {"aogremote", ".aogconsole"} and {
        path.name for path in home.glob(".aogconsole/*")
    } <= {"lock"}


def test_right_words_reach_the_command(host: tuple[list[str], Path]) -> None:
    """The words of an honest start pass both ways, up to the command that is not there."""
    for answer in (ask(host, WORDS), ask(host, [], " ".join(WORDS))):
        assert (answer.returncode, answer.stdout) == (1, "")
        assert "/no/such/stagecalms.sh is not found" in answer.stderr


@TREE
@given(place=st.integers(0, 4), word=hostile)
@example(place=4, word="#15270")
@example(place=0, word="--slots")
@example(place=3, word="uid___A002_X788a57_X29_X1")
@example(place=1, word=TOKEN + "\n")
def test_a_hostile_word_is_refused(host: tuple[list[str], Path], place: int, word: str) -> None:
    """Any word that is not exactly what it should be: one line, exit status 2, nothing done."""
    words = [*WORDS[:place], word, *WORDS[place + 1 :]]
    if words == WORDS or (place == 4 and re.fullmatch("[1-9][0-9]{0,11}", word)):
        return
    refused(host, words)


@TREE
@given(original=hostile | st.lists(hostile | st.sampled_from(WORDS), max_size=6).map(" ".join))
@example(original="")
@example(original="--root /tmp list")
@example(original="--operator somebody stop " + TOKEN)
@example(original=" ".join(WORDS) + "; touch owned")
@example(original="list\nlist")
@example(original="sh -s -- list")
def test_a_hostile_command_is_refused(host: tuple[list[str], Path], original: str) -> None:
    """Whatever a client sends instead of a verb: refused, without a glob, an option or a second command."""
    answer = ask(host, [], original)
    if original.split() != WORDS:
        assert (answer.returncode, answer.stdout) == (2, "")
    assert untouched(host[1])


@TREE
@given(word=st.from_regex(r"(20[0-9]{2}|[0-9]{4})\.[0-9A-Z]\.[0-9]{5}\.[A-Z]{1,4}", fullmatch=True) | hostile)
def test_both_sides_know_the_same_projects(host: tuple[list[str], Path], word: str) -> None:
    """What ids.ProjectCode takes the host takes, and nothing else."""
    assert accepted(host, 2, word) == parses(ProjectCode, word)


@TREE
@given(word=st.from_regex(r"uid___A00[0-9]_X[0-9a-f]{1,13}_X[0-9a-f]{1,13}", fullmatch=True) | hostile)
def test_both_sides_know_the_same_uids(host: tuple[list[str], Path], word: str) -> None:
    """What ids.MousUid takes the host takes, in the spelling of mails, and nothing else."""
    assert accepted(host, 3, word) == (parses(MousUid, word) and word.startswith("uid___"))


@TREE
@given(word=st.from_regex(r"#?[0-9]{1,13}", fullmatch=True) | hostile)
def test_both_sides_know_the_same_tickets(host: tuple[list[str], Path], word: str) -> None:
    """What ids.Ticket takes the host takes, but without the sign a shell takes for a comment."""
    assert accepted(host, 4, word) == (parses(Ticket, word) and not word.startswith("#"))


def accepted(host: tuple[list[str], Path], place: int, word: str) -> bool:
    """Does the host take this word of a start?"""
    return ask(host, [*WORDS[:place], word, *WORDS[place + 1 :]]).returncode == 1


def parses(kind: type[MousUid] | type[ProjectCode] | type[Ticket], word: str) -> bool:
    """Does our side take it?"""
    try:
        kind.parse(word)
    except InvalidId:
        return False
    return True


@TREE
@given(
    values=st.tuples(*[st.text(st.characters(exclude_characters="\0\r", exclude_categories=["Cs"]), max_size=30)] * 3)
)
@example(values=("'; touch owned #", "$(touch owned)", "a'b\"c\\d"))
def test_settings_are_quoted(tmp_path: Path, values: tuple[str, str, str]) -> None:
    """Whatever the configuration holds arrives in the program as it is, through a real shell."""
    root, command, web_root = values
    text = render_aogremote(root=root, command=command, web_root=web_root, slots=3)
    head = text[: text.index("set -u")] + 'printf \'%s\\0\' "$root" "$slots" "$command" "$web_root"'
    done = subprocess.run(["sh"], input=head.encode(), cwd=tmp_path, capture_output=True, check=True)
    assert done.stdout.decode().split("\0")[:4] == [root, "3", command, web_root]
    assert not list(tmp_path.iterdir())


def test_a_broken_check_is_noticed(tmp_path: Path) -> None:
    """This suite notices a host that takes any ticket."""
    text = render_aogremote(command="/no/such/stagecalms.sh").replace('&& is_ticket "$4"', "")
    (tmp_path / "aogremote").write_text(text)
    host = ["dash", str(tmp_path / "aogremote")], tmp_path
    with pytest.raises(AssertionError):
        refused(host, [*WORDS[:4], "#15270"])
