"""The documentation says what the program does: what is made from the code is made again here and compared.

`AOG_WRITE_DOCS=1` writes it anew: the tables, the diagram, the example documents and the README's session.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from importlib import resources
from pathlib import Path
from typing import Any, get_args

import pytest

from aogconsole import config
from aogconsole.errors import AogError
from aogconsole.ids import MousUid, ProjectCode, Ticket
from aogconsole.journal.store import statement
from aogconsole.requests.request import TRANSITIONS, State
from aogconsole.stagecalms import words
from aogconsole.stagecalms.job import Node
from aogconsole.staging import transcript
from tests.support import pages
from tests.support.desk import Desk
from tests.support.ngas import Ngas
from tests.support.pages import DOCS, MADE, ROOT
from tests.support.rabbitmq import Vhost
from tests.support.reingestionday import ReingestionDay
from tests.support.sampleday import SampleDay, masked, scrubbed, session

WRITE = bool(os.environ.get("AOG_WRITE_DOCS"))
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
FREE = {"data", "counts", "places", "troubles", "found", "judged"}
"""Keys whose value has no fixed shape."""


@pytest.mark.parametrize(("file", "name"), MADE, ids=lambda value: getattr(value, "name", value))
def test_what_is_made_from_the_code_is_as_made(file: Path, name: str) -> None:
    """Each table, list and diagram in the pages is the one of this version."""
    made = MADE[file, name]()
    if WRITE:
        pages.put(file, name, made)
    assert pages.part(file, name) == made, "AOG_WRITE_DOCS=1 writes it anew"


def test_every_link_leads_somewhere() -> None:
    """Links between the pages, to example documents and to headings, and every page can be reached from the README."""
    reached = set()
    for page in PAGES:
        for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
            assert "://" not in target, target
            path, _, heading = target.partition("#")
            file = (page.parent / path).resolve() if path else page
            assert file.exists(), f"{page.name}: {target}"
            reached.add(file)
            if heading:
                found = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
                assert heading in {re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in found}, target
    assert reached >= {*PAGES[1:], *(DOCS / "json").iterdir()}


def test_every_state_of_runs_letters_and_mails_is_explained() -> None:
    """Those that the journal takes, each with its row in states.md."""
    text = (DOCS / "states.md").read_text()
    for kind, column in (("run", "state"), ("letter", "state"), ("mail", "result")):
        (words,) = re.findall(rf"create table {kind} .*?check \({column} in \((.*?)\)\)", statement("schema_1"), re.S)
        section = text.partition(f"## A {kind}'s")[2].partition("\n## ")[0]
        assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == re.findall(r"'(\w+)'", words), kind


def test_every_exit_code_is_explained() -> None:
    """Those of the errors, and 0 and 1, each with its row in the README."""

    def codes(error: type[AogError]) -> set[int]:
        return {error.exit_code}.union(*(codes(one) for one in error.__subclasses__()))

    section = (ROOT / "README.md").read_text().partition("## Exit codes")[2].partition("\n## ")[0]
    assert {int(code) for code in re.findall(r"^\| (\d) \|", section, re.MULTILINE)} == {0, *codes(AogError)}


def test_the_grants_are_what_the_statements_read() -> None:
    """The administrator's page grants each table of our statements, and no other."""
    folder = resources.files("backends").joinpath("sql/oracle")
    texts = [re.sub(r"--.*", "", file.read_text(encoding="utf-8")) for file in folder.iterdir()]
    read = [table for text in texts for table in re.findall(r"\b(?:from|join)\s+(alma\.\w+)", text)]
    granted = re.findall(r"grant select on (alma\.\w+) to", (DOCS / "administrator.md").read_text())
    assert sorted(granted) == sorted(set(read))


def test_the_verbs_of_the_staging_host_are_counted() -> None:
    """The administrator's page tells how many verbs a key is good for: those that the script takes."""
    script = resources.files("aogconsole").joinpath("staging/aogremote.sh").read_text(encoding="utf-8")
    verbs = set(re.findall(r"^do_(\w+)\(\)", script, re.MULTILINE))
    assert len(verbs) == 8
    assert "the script accepts eight verbs" in (DOCS / "administrator.md").read_text()


def test_every_key_of_the_parts_is_told() -> None:
    """Each class that binds keys has a place on the console's page, and each key that has an id says what it does."""
    keyed = pages.keyed_widgets()
    assert set(keyed) == set(pages.PARTS)
    for name, bindings in keyed.items():
        assert all(binding.description for binding in bindings if binding.id), name
        untold = [one.key for one in bindings if not one.id and not one.key.isdigit()]
        assert untold in ([], ["escape"], ["n,N"]), name  # an input's way out; what a list has no use for


def test_every_setting_of_the_console_is_told() -> None:
    """The section `console` stands on its page, and the clipboard's choices."""
    text = (DOCS / "console.md").read_text()
    for key in config.known_keys():
        if key.section == "console":
            assert f"console.{key.name}" in text
            assert all(f"`{choice}`" in text for choice in get_args(key.type) if isinstance(choice, str)), key.name


def test_every_setting_of_the_staging_command_is_told() -> None:
    """Its section stands in its page's table, and the choices of its engine."""
    table = (DOCS / "stagecalms.md").read_text().partition("## Settings")[2].partition("\n## ")[0]
    told = set(re.findall(r"`(?:stagecalms[.])?(\w+)`", table))
    assert {key.name for key in config.known_keys() if key.section == "stagecalms"} <= told


def test_the_transcripts_of_the_staging_command() -> None:
    """Those on its page are read as what they are shown for, and each of our lines is told."""
    page = (DOCS / "stagecalms.md").read_text()
    blocks = [
        f"\n{text}".replace("\n    ", "\n") for text in re.findall(r"(?:^    .*\n|^\n(?=    ))+", page, re.MULTILINE)
    ]
    success, failure, reuse = (
        next(text for text in blocks if sign in text) for sign in ("completed", "Failed.", words.REUSING)
    )
    assert isinstance(read(success, "uid___A002_X788a57_X29", 0), transcript.Succeeded)
    assert isinstance(read(failure, "uid___A001_X11f_X9c", 1), transcript.Failed)
    block = "uid___A002_X7e4988_X1f2"
    assert {words.staged_already(block), words.COPYING} < set(reuse.splitlines())
    assert {
        words.LOOKING, words.GENERATING, words.CHECKING, words.not_staged(block), words.REGENERATING, words.COPYING,
        words.DELETING_LOGS, words.DELETING_WORK,
    } < set(success.splitlines())  # fmt: skip
    some = "..."
    for line in (
        words.waiting(some), words.RHEL5, words.left_out(some, "SemiPass"), words.cut(Node(some)),
        words.arrived_wrong(some),
    ):  # fmt: skip
        assert f"| `{line}` |" in page


def test_the_configuration_of_ssh_lets_an_old_node_in(tmp_path: Path) -> None:
    """OpenSSH takes what it finds first."""
    page = (DOCS / "stagecalms.md").read_text()
    shown = page.split("named by `stagecalms.ssh_config`:")[1].split("Where a node's")[0]
    (tmp_path / "config").write_text(shown)
    for host, algorithm in (("arcp9.hq.eso.org", "ssh-ed25519"), ("arcp-rhel5.hq.eso.org", "ssh-rsa")):
        argv = ["ssh", "-G", "-F", str(tmp_path / "config"), host]
        told = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=10).stdout
        assert re.search(rf"^hostkeyalgorithms (\S+,)?{algorithm}$", told, re.MULTILINE), host


def read(text: str, mous: str, status: int) -> transcript.Outcome:
    """What the console makes of an output."""
    url = "http://almascience.eso.org/arcdistribution/"
    reader = transcript.Transcript(ProjectCode("2012.1.00357.S"), MousUid(mous), Ticket("15270"), [url])
    reader.feed(text.encode())
    reader.close()
    return reader.outcome(status)


def test_the_pictures_are_whole_and_small() -> None:
    """Those that pages show are there, none fetches anything from elsewhere, and the folder is no burden."""
    folder = ROOT / "screenshots"
    pictures = {file.stem for file in folder.glob("*.svg")}
    assert pictures == {file.stem for file in folder.glob("*.png")}
    assert len(pictures) > 10
    for picture in folder.glob("*.svg"):
        assert not elsewhere(picture.read_text(encoding="utf-8")), picture.name
    assert sum(file.stat().st_size for file in folder.iterdir() if file.is_file()) < 3_200_000


def elsewhere(svg: str) -> list[str]:
    """What a picture would fetch, or names as its maker; the namespace is a name only."""
    markup = re.sub(r">[^<]*</text>", "></text>", svg)  # what is painted may be an address
    return [found for found in re.findall(r"(?:url\(|href=|https?:)[^\s)]*", markup)
            if not found.startswith(("url(#", "http://www.w3.org/2000/svg"))]  # fmt: skip


def test_a_picture_that_fetches_its_font_is_caught() -> None:
    """As Textual makes it: with a font of a content network."""
    svg = '<svg xmlns="http://www.w3.org/2000/svg">{}<text>http://almascience.eso.org/</text></svg>'
    assert not elsewhere(svg.format('<g clip-path="url(#one)"/>'))
    assert elsewhere(svg.format('<style>@font-face { src: url("https://fonts.example/a.woff2") }</style>'))
    assert elsewhere(svg.format('<image href="a.png"/>'))


def test_no_page_names_a_place_of_this_machine() -> None:
    """No registry's address, no path of tests, no port of a test server."""
    for page in [*PAGES, *(DOCS / "json").iterdir()]:
        found = re.findall(r"pypi|files\.pythonhosted|(?<!\w)/(?:tmp|work)/|127\.0\.0\.1|pytest", page.read_text())
        assert not found, (page.name, found)


def test_the_sample_day(desk: Desk, rabbitmq: Vhost, ngas: Ngas) -> None:
    """Every `--json` command has an example of the shape it prints; every change of state is an arrow of the table."""
    reingested = ReingestionDay(desk, rabbitmq, ngas)
    documents = {**reingested.run(), **SampleDay(desk).run()}
    files = {pages.file_of(name): document for name, document in documents.items()}
    assert {pages.file_of(name) for name in pages.json_verbs()} | {"history-verify.json"} == set(files)
    if WRITE:
        for name, document in files.items():
            text = scrubbed(reingested.scrubbed(json.dumps(document, indent=2, ensure_ascii=False)), desk)
            (DOCS / "json" / name).write_text(text + "\n", encoding="utf-8")
    assert {file.name for file in (DOCS / "json").iterdir()} == set(files)
    for name, document in files.items():
        example = json.loads((DOCS / "json" / name).read_text())
        assert not differences(shape(example), shape(document)), name
    described = set(re.findall(r"`(\w+)`", (DOCS / "json.md").read_text()))
    assert {key for document in files.values() for key in keys(document)} <= described
    for row in desk.json("history", "--limit", "-1"):
        if row["kind"] == "request" and row["from"] and row["from"] != row["to"]:
            arrow = TRANSITIONS[row["verb"]]
            assert State(row["from"]) in arrow.origins, row
            assert State(row["to"]) in arrow.target, row


def test_the_readmes_session(desk: Desk) -> None:
    """The commands of the README print what stands there, but for times, ages and random names."""
    printed = session(desk)
    if WRITE:
        pages.put(ROOT / "README.md", "day", printed)
    assert masked(pages.part(ROOT / "README.md", "day")) == masked(printed)


def shape(value: Any) -> Any:
    """The keys and types of a document: what stands at `.`, or `[]` for the elements of a list taken together."""
    match value:
        case dict():
            return {key: "free" if key in FREE else shape(one) for key, one in value.items()}
        case list():
            return [joined([shape(one) for one in value])]
        case None:
            return None
        case _:
            return type(value).__name__


def joined(shapes: list[Any]) -> Any:
    """One shape that each of these fits: keys of all, null wherever one is null and another is not forgotten."""
    filled = [one for one in shapes if one is not None]
    if filled and all(isinstance(one, dict) for one in filled):
        return {key: joined([one[key] for one in filled if key in one]) for key in {k for one in filled for k in one}}
    if filled and all(isinstance(one, list) for one in filled):
        return [joined([element for one in filled for element in one])]
    return " or ".join(sorted({one if isinstance(one, str) else json.dumps(one) for one in filled})) or None


def differences(example: Any, real: Any, where: str = "") -> list[str]:
    """Where two shapes differ; null fits everything."""
    if example is None or real is None:
        return []
    if isinstance(example, dict) and isinstance(real, dict):
        missing = [f"{where}.{key}" for key in example.keys() ^ real.keys()]
        return missing + [text for key in example.keys() & real.keys()
                          for text in differences(example[key], real[key], f"{where}.{key}")]  # fmt: skip
    if isinstance(example, list) and isinstance(real, list):
        return differences(example[0], real[0], f"{where}[]")
    return [] if example == real else [f"{where}: {example} or {real}"]


def keys(value: Any) -> set[str]:
    """The keys of a document and of the documents in it."""
    match value:
        case dict():
            return {*value, *(key for name, one in value.items() if name not in FREE for key in keys(one))}
        case list():
            return {key for one in value for key in keys(one)}
        case _:
            return set()


def test_a_wrong_example_is_caught() -> None:
    """A key too many, a key too few, another type, in lists too: each is a difference; null and order are none."""
    real = {"a": 1, "b": [{"c": "x", "d": None}, {"c": "y", "d": 2}], "data": {"x": 1}}
    for wrong in (
        {**real, "e": 1}, {"a": 1, "data": {}}, {**real, "a": "1"}, {**real, "b": [{"c": "x"}]},
        {**real, "b": [{"c": 1, "d": 1}]}, {**real, "b": {}},
    ):  # fmt: skip
        assert differences(shape(wrong), shape(real)), wrong
    for right in ({**real, "a": None}, {**real, "data": {"y": 2}}, {**real, "b": [{"d": 5, "c": ""}]}):
        assert not differences(shape(right), shape(real)), right
