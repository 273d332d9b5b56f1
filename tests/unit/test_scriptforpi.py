"""The calibrator for scriptForPI.py, with a CASA that really executes one: its messages, its outputs, its oddities.

The CASA here does what the real one does to a calibrator: it runs the script in its own process, prints exceptions and
ends with whatever exit status it likes. A careless calibrator, which believes that status, is caught.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

import pytest

TEXT = resources.files("aogconsole").joinpath("stagecalms/scriptforpi.sh").read_text("utf-8")
PROJECT, MOUS = "2016.1.00001.S", "uid___A001_X133d_X1244"
ONE, TWO, THREE = (f"uid___A002_Xb1_X{number}" for number in (1, 2, 3))
DONE = "Done. Please find results in current directory."
SPLIT, WORKING = "calibrated/{}.ms.split.cal", "calibrated/working/{}.ms"
ENDING = "The MeasurementSets of {} execution block(s) are ready."

CASA = r"""
import os, sys, time, traceback

words = sys.argv[1:]
with open(os.environ["NOTES"] + "/words", "a") as notes:
    notes.write(repr([words, os.getcwd(), sys.stdin.read()]) + "\n")
with open(time.strftime("casa-%Y%m%d-%H%M%S.log"), "w") as log:
    log.write("2016-10-01 12:00:00 INFO ::casa\n")
try:
    with open(words[words.index("-c") + 1]) as file:
        exec(compile(file.read(), file.name, "exec"), {"__name__": "__main__"})
except SystemExit as end:
    print("An exception has occurred, use %tb to see the full traceback.\n\nSystemExit:", end, file=sys.stderr)
except BaseException:
    traceback.print_exc()
sys.stdout.flush()
os._exit(int(os.environ.get("STATUS", "0")))
"""

SCRIPT = r"""
import os, sys, time

def ms(path):
    os.makedirs(path)
    with open(path + "/table.dat", "wb") as table:
        table.write(b"\xbe\xbe\xbe\xbe" + os.urandom(64))

if os.path.exists("../calibrated"):
    print("ERROR: directory ../calibrated exists already")
    sys.exit(1)
if not os.path.isdir("../raw"):
    print("ERROR: directory ../raw not present.")
    sys.exit(1)
os.mkdir("../calibrated")
os.chdir("../calibrated")
print("2016-10-01 12:00:01 INFO calibrating", *sorted(os.listdir("../raw")))
"""

FETCH = r"""
set -eu
printf '%s\n' "$#" "$@" >"$NOTES/fetched"
top=./$PLACE
mkdir -p "$top/script" "$top/raw" "$top/calibration"
cp "$NOTES/script" "$top/script/$NAME"
for block in $RAW; do mkdir "$top/raw/$block.asdm.sdm"; done
"""


@dataclass
class Outcome:
    """What a call of the calibrator came to."""

    status: int
    out: str
    err: str


@dataclass
class Site:
    """A node with a CASA, a delivery to fetch, and a working directory."""

    folder: Path
    shell: Sequence[str] = ("sh",)
    text: str = TEXT
    script: str = ""
    """What scriptForPI.py does after it has begun."""
    place: str = f"2016.1.00001.S/science_goal.uid___A001_X1_X1/group.uid___A001_X1_X2/member.{MOUS}"
    name: str = f"member.{MOUS}.scriptForPI.py"
    raw: Sequence[str] = (ONE, TWO)
    status: int = 0
    more: dict[str, str] = field(default_factory=dict)

    @property
    def work(self) -> Path:
        """The working directory."""
        return self.folder / "WORK 11018"

    @property
    def top(self) -> Path:
        """Where the delivery is unpacked."""
        return self.work / self.place

    def leaves(self, blocks: Sequence[str] = (ONE, TWO), at: str = SPLIT, *lines: str) -> Site:
        """Have scriptForPI.py write these MeasurementSets, and say these lines and that it is done."""
        self.script += "".join(f"ms({'../' + at.format(block)!r})\n" for block in blocks)
        return self.does(*(f"print({line!r})" for line in (*lines, DONE)))

    def does(self, *statements: str) -> Site:
        """Have scriptForPI.py do this too."""
        self.script += "".join(f"{one}\n" for one in statements)
        return self

    def has(self, path: str, what: str | None = None) -> Site:
        """Have a file in the working directory, or a folder."""
        found = self.work / path
        (found if what is None else found.parent).mkdir(parents=True, exist_ok=True)
        if what is not None:
            found.write_text(what)
        return self

    def argv(self, words: Sequence[str], options: Sequence[str] | None) -> list[str]:
        """The calibrator's command."""
        (self.folder / "script").write_text(SCRIPT + self.script)
        (self.folder / "casa.py").write_text(CASA)
        (self.folder / "fetch it.sh").write_text(FETCH)
        program = self.folder / "scriptforpi.sh"
        program.write_text(self.text)
        self.work.mkdir(exist_ok=True)
        if options is None:
            casa = shlex.join([sys.executable, "-S", "-B", str(self.folder / "casa.py"), "--pipeline"])
            options = ["--casa", casa, "--fetch", shlex.join(["sh", str(self.folder / "fetch it.sh")])]
        return [*self.shell, str(program), *options, *words]

    def environment(self) -> Mapping[str, str]:
        """What CASA and the fetch command are told."""
        told = {"NOTES": str(self.folder), "PLACE": self.place, "NAME": self.name, "RAW": " ".join(self.raw)}
        return {**os.environ, **told, "STATUS": str(self.status), **self.more}

    def run(self, *words: str, options: Sequence[str] | None = None) -> Outcome:
        """Call it in the working directory as a worker does."""
        ended = subprocess.run(
            self.argv(words or (PROJECT, MOUS, ONE, TWO), options),
            cwd=self.work, env=self.environment(), capture_output=True, text=True, errors="backslashreplace",
            timeout=60, check=False,
        )  # fmt: skip
        return Outcome(ended.returncode, ended.stdout, ended.stderr)

    def results(self) -> list[str]:
        """The MeasurementSets that it left."""
        return sorted(path.name.removesuffix(".ms.split.cal") for path in self.work.glob("*.ms.split.cal"))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A node where everything goes well."""
    return Site(tmp_path)


def check_failed(site: Site, outcome: Outcome, sentence: str) -> None:
    """It failed with a sentence of its own at the end, and moved nothing."""
    assert outcome.status == 1, outcome
    last = outcome.err.splitlines()[-1]
    assert last.startswith("ERROR: ")
    assert sentence in last
    assert site.results() == []


# ── it goes well ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("shell", [["sh"], ["bash", "--posix"], ["bash"]], ids="-".join)
def test_done(site: Site, shell: Sequence[str]) -> None:
    """Fetched, calibrated in script/, moved: with blanks in the working directory's and the commands' names."""
    site.shell = shell
    site.leaves()
    outcome = site.run()
    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.out.splitlines() == [
        "Fetching the delivered products and raw data ...",
        f"Running {site.name} ...",
        f"2016-10-01 12:00:01 INFO calibrating {ONE}.asdm.sdm {TWO}.asdm.sdm",
        DONE,
        ENDING.format(2),
    ]
    assert site.results() == [ONE, TWO]
    assert not list((site.top / "calibrated").iterdir())
    assert (site.folder / "fetched").read_text().split() == ["4", PROJECT, MOUS, ONE, TWO]
    words = ["--pipeline", "--nologger", "--nogui", "-c", site.name]
    assert (site.folder / "words").read_text() == f"{[words, str(site.top / 'script'), '']!r}\n"
    assert len(list((site.top / "script").glob("casa-*.log"))) == 1
    assert (site.work / "scriptforpi.log").read_text().endswith(f"{DONE}\n")


@pytest.mark.parametrize(
    "at",
    [
        SPLIT, WORKING, "calibrated/working/{}.ms.split.cal", "calibrated/{}.ms_bl", "calibrated/working/{}.ms_bl",
        "calibrated/{}.polcalibrated.APP.ms", "calibrated/working/{}.polcalibrated.APP.ms", "calibrated/{}.ms",
        "calibrated/{}.ms.atmcor.atmtype1_bl", "calibrated/{}.PM03.ms",
    ],
)  # fmt: skip
def test_names(site: Site, at: str) -> None:
    """Whatever the result is named, it becomes EB.ms.split.cal: moved, never copied."""
    site.leaves((ONE, TWO), at)
    site.script += f"print('inode', os.stat({'../' + at.format(ONE)!r}).st_ino)\n"
    outcome = site.run()
    assert outcome.status == 0, outcome
    assert site.results() == [ONE, TWO]
    inode = (site.work / f"{ONE}.ms.split.cal").stat().st_ino
    assert f"inode {inode}\n" in outcome.out


def test_the_best_of_several_is_taken(site: Site) -> None:
    """The split one, not the one that it was made of."""
    site.leaves((ONE, TWO), WORKING)
    site.leaves((ONE, TWO), SPLIT)
    assert site.run().status == 0
    assert sorted(path.name for path in (site.top / "calibrated/working").iterdir()) == [f"{ONE}.ms", f"{TWO}.ms"]
    assert not list((site.top / "calibrated").glob("*.cal"))


def test_a_link_is_followed(site: Site) -> None:
    """What is moved is the MeasurementSet, not a link that would lead nowhere from another host."""
    site.leaves((ONE, TWO), "calibrated/{}.calibration/split")
    site.script += f"[os.symlink(f'{{one}}.calibration/split', f'{{one}}.ms.split.cal') for one in {[ONE, TWO]!r}]\n"
    assert site.run().status == 0
    for block in (ONE, TWO):
        found = site.work / f"{block}.ms.split.cal"
        assert not found.is_symlink()
        assert (found / "table.dat").stat().st_size == 68


def test_the_imaging_pipelines_ms_is_linked(site: Site) -> None:
    """As by versions since 2017, which say another last sentence too."""
    site.leaves((ONE, TWO), WORKING).does(
        f"[os.symlink(f'working/{{one}}.ms', f'{{one}}.ms') for one in {[ONE, TWO]!r}]"
    )
    site.script = site.script.replace(DONE, 'Done. Please find results in directory "calibrated".')
    assert site.run().status == 0
    assert all((site.work / f"{block}.ms.split.cal/table.dat").is_file() for block in (ONE, TWO))


def test_blocks_of_like_names(site: Site) -> None:
    """One's UID is the beginning of another's."""
    site.raw = (ONE, ONE + "2")
    site.leaves((ONE, ONE + "2"), "calibrated/{}.ms_bl")
    assert site.run(PROJECT, MOUS, ONE).status == 0
    assert site.results() == [ONE]


def test_its_options_are_set(site: Site) -> None:
    """Before it begins, as it asks for them: in its globals, when it is run by another file too."""
    site.does("print('told', SPACESAVING, globals()['DOSPLIT'], os.path.basename(os.getcwd()))").leaves()
    argv = site.argv((PROJECT, MOUS, ONE, TWO), None)
    outcome = site.run(options=[*argv[2:6], "--set", "SPACESAVING = 2; DOSPLIT = True"])
    assert (outcome.status, outcome.err) == (0, "")
    assert "told 2 True calibrated\n" in outcome.out
    assert "'scriptforpi_set.py']" in (site.folder / "words").read_text()


@pytest.mark.parametrize("status", [1, 3, 134])
def test_the_exit_status_proves_nothing(site: Site, status: int) -> None:
    """Done, with every MeasurementSet: CASA's exit status is told, and believed to nobody's harm."""
    site.leaves()
    site.status = status
    outcome = site.run()
    assert outcome.status == 0
    assert f"CASA ended with {status}, but scriptForPI.py is done." in outcome.out
    assert site.results() == [ONE, TWO]


def test_blocks_that_are_not_asked_for(site: Site) -> None:
    """The delivery may hold more, calibrated or not (QA0 SemiPass): only what is asked for counts and is moved."""
    site.raw = (ONE, TWO, THREE)
    absent = 'ERROR: the following ASDMs have calibration information but are absent from directory "raw":'
    site.leaves((ONE, THREE), SPLIT, f"ERROR: {TWO}.ms.split.cal was not created.", absent, f"['{TWO}']")
    assert site.run(PROJECT, MOUS, ONE).status == 0
    assert site.results() == [ONE]
    assert (site.top / f"calibrated/{THREE}.ms.split.cal").is_dir()


def test_products_that_are_there(site: Site) -> None:
    """Without a fetch command the delivery lies in the working directory; names and folders may be others."""
    site.name, site.place = "scriptForPI.py", "unpacked"
    site.leaves()
    argv = site.argv((PROJECT, MOUS, ONE, TWO), None)
    subprocess.run(argv[argv.index("--fetch") + 1], shell=True, cwd=site.work, env=site.environment(), check=True)  # noqa: S602
    outcome = site.run(options=argv[2:4])
    assert (outcome.status, outcome.err) == (0, "")
    assert "Fetching" not in outcome.out


def test_the_script_of_the_mous_is_taken(site: Site) -> None:
    """Of a delivery of several member OUSs."""
    site.leaves()
    other = site.work / "group/member.uid___A001_X133d_X12441/script"
    other.mkdir(parents=True)
    (other / "scriptForPI.py").write_text("print('the wrong one')")
    outcome = site.run()
    assert outcome.status == 0
    assert "wrong" not in outcome.out


def test_casa_of_the_path(site: Site) -> None:
    """`casa` is what is run by default."""
    site.leaves()
    program = site.folder / "bin/casa"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable} -S\n{CASA}")
    program.chmod(0o755)
    site.more = {"PATH": f"{program.parent}:{os.environ['PATH']}"}
    argv = site.argv((PROJECT, MOUS, ONE, TWO), None)
    assert site.run(options=argv[4:6]).status == 0


# ── it does not ──────────────────────────────────────────────────────────────────────────────────────────────────

FAILURES: Mapping[str, tuple[Callable[[Site], object], str]] = {
    "not created": (
        lambda site: site.leaves((TWO,), SPLIT, f"ERROR: {ONE}.ms.split.cal was not created."),
        f"created no MeasurementSet of {ONE}: ",
    ),
    "not created, although there is an uncalibrated one": (
        lambda site: site.leaves((ONE, TWO), WORKING, f"ERROR: {TWO}.ms.split.cal was not created."),
        f"created no MeasurementSet of {TWO}: ",
    ),
    "not created by the pipeline": (
        lambda site: site.leaves((TWO,), SPLIT, f"ERROR: {ONE}.ms was not created."),
        f"created no MeasurementSet of {ONE}: ",
    ),
    "no spectra created": (
        lambda site: site.leaves((TWO,), SPLIT, f"ERROR: {ONE}*.ms*_bl was not created."),
        f"created no MeasurementSet of {ONE}: ",
    ),
    "one of each antenna": (
        lambda site: (
            site.leaves((TWO,)).leaves((ONE,), "calibrated/{}.PM01.ms").leaves((ONE,), "calibrated/{}.PM02.ms")
        ),
        f"more than one MeasurementSet of {ONE}: ",
    ),
    "neither created": (
        lambda site: site.leaves((), SPLIT, *(f" ERROR: {one}.ms.split.cal was not created.\r" for one in (ONE, TWO))),
        f"created no MeasurementSet of {ONE} {TWO}: ",
    ),
    "no space": (
        lambda site: site.leaves((), SPLIT, "ERROR: not enough free disk space. Need at least 123456 MB."),
        "not enough free disk space. Need at least 123456 MB.",
    ),
    "no script": (
        lambda site: site.does("sys.exit('ERROR: No calibration script found.')"),
        "the delivery has no calibration script",
    ),
    "another error": (
        lambda site: site.leaves((ONE, TWO), SPLIT, "ERROR: $(touch pwned) `id` \x1b[2J"),
        "scriptForPI.py failed: $(touch pwned) `id`",
    ),
    "no pipeline": (
        lambda site: site.leaves((ONE, TWO), SPLIT, "SystemExit: ERROR: Pipeline not available. Make sure"),
        "scriptForPI.py failed: Pipeline not available.",
    ),
    "after a progress bar": (
        lambda site: site.leaves((ONE, TWO), SPLIT, "10%\r50%\rERROR: cosmic ray"),
        "scriptForPI.py failed: cosmic ray",
    ),
    "an exception": (
        lambda site: site.does(f"ms('{ONE}.ms.split.cal')", "raise ValueError('no antenna')"),
        "did not come to its end (exit status 0)",
    ),
    "killed, with every result begun": (
        lambda site: site.does(f"ms('{ONE}.ms.split.cal')", f"ms('{TWO}.ms.split.cal')", "os.kill(os.getpid(), 9)"),
        "did not come to its end (exit status 137)",
    ),
    "silent": (lambda site: site.does(), "did not come to its end (exit status 0)"),
    "done, and one is missing": (lambda site: site.leaves((ONE,)), f"left no MeasurementSet of {TWO} in "),
    "done, and none is there": (lambda site: site.leaves(()), f"left no MeasurementSet of {ONE} {TWO} in "),
    "done is told of another thing": (
        lambda site: site.does(f"print('print(\"{DONE}\")')"), "did not come to its end"
    ),
    "a folder is no MeasurementSet": (
        lambda site: site.leaves().does(f"os.remove('{TWO}.ms.split.cal/table.dat')"),
        f"{TWO}.ms.split.cal is no MeasurementSet",
    ),
    "a link that leads away": (
        lambda site: site.leaves((ONE,)).does(
            f"ms('{site.folder}/elsewhere')", f"os.symlink('{site.folder}/elsewhere', '{TWO}.ms.split.cal')"
        ),
        f"left no MeasurementSet of {TWO} in ",
    ),
    "raw data are missing": (
        lambda site: setattr(site, "raw", (ONE,)), f"/raw: {TWO}.asdm.sdm"
    ),
    "no delivered script": (lambda site: setattr(site, "name", "scriptForImaging.py"), f"was delivered for {MOUS}"),
    "no folder of the script": (
        lambda site: setattr(site.has("scriptForPI.py", ""), "name", "x.py"),
        "in no folder script/",
    ),
    "calibrated already": (lambda site: site.leaves().has(f"{site.place}/calibrated"), "calibrated exists, so"),
    "a result of before": (
        lambda site: os.symlink("nowhere", site.leaves().has("").work / f"{TWO}.ms.split.cal"),
        "is there already",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAILURES)
@pytest.mark.parametrize("status", [0, 1])
def test_failures(site: Site, name: str, status: int) -> None:
    """Each by its own words, whatever CASA's exit status; nothing is moved."""
    prepare, sentence = FAILURES[name]
    site.status = status
    prepare(site)
    outcome = site.run()
    sentence = sentence.replace("status 0)", f"status {status})")
    if name == "a result of before":
        (site.work / f"{TWO}.ms.split.cal").unlink()
    check_failed(site, outcome, sentence)
    assert not (site.work / "pwned").exists()
    if (log := site.work / "scriptforpi.log").exists():
        assert log.read_text(errors="backslashreplace") in outcome.out


def test_two_scripts(site: Site) -> None:
    """None is guessed."""
    site.leaves()
    again = site.top / "script/old"
    again.mkdir(parents=True)
    (again / "scriptForPI.py").write_text("")
    check_failed(site, site.run(), "more than one scriptForPI.py")


def test_products_that_cannot_be_fetched(site: Site) -> None:
    """The fetch command's exit status counts."""
    site.leaves()
    check_failed(site, site.run(options=["--fetch", "echo no such tape >&2; exit 7 #"]), "exit status 7")
    check_failed(site, site.run(options=["--fetch", "/nowhere/fetch"]), "exit status 127")


def test_casa_that_is_not_there(site: Site) -> None:
    """It says so."""
    site.leaves()
    fetch = site.argv((PROJECT, MOUS, ONE), None)[4:6]
    outcome = site.run(options=["--casa", "/nowhere/casa", *fetch])
    check_failed(site, outcome, "did not come to its end (exit status 127)")
    assert "not found" in outcome.out


@pytest.mark.parametrize(
    "words",
    [
        [], [PROJECT, MOUS], ["-x", PROJECT, MOUS, ONE], ["--casa"], ["--fetch", "", PROJECT, MOUS, ONE], ["--set"],
        ["a b", MOUS, ONE], [PROJECT, "uid://A001/X1/X2", ONE], [PROJECT, MOUS, f"{ONE}/.."],
        [PROJECT, MOUS, ONE, ""], [PROJECT, MOUS, "uid___A002_Xb1_X01"], [PROJECT, MOUS, "uid___A002_X_X1"],
        [PROJECT, MOUS, f"{ONE}\n"], [PROJECT, MOUS, "uid___A002_Xb1_X1_X2"], [PROJECT, MOUS, ONE + "1" * 40],
    ],
    ids=repr,
)  # fmt: skip
def test_words(site: Site, words: Sequence[str]) -> None:
    """Checked again; nothing is done with others."""
    site.leaves()
    argv = [*site.shell, *site.argv((), [])[1:], *words]
    ended = subprocess.run(argv, cwd=site.work, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("ERROR: scriptforpi.sh: ")
    assert not list(site.work.iterdir())


# ── while it runs ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def running(site: Site) -> Iterator[subprocess.Popen[bytes]]:
    """A call that waits for the file `go` in the middle of a line."""
    site.script = "sys.stdout.write('half a li'); sys.stdout.flush()\n"
    site.script += f"while not os.path.exists({str(site.folder / 'go')!r}): time.sleep(0.02)\n"
    site.script += "print('ne')\n"
    site.leaves()
    process = subprocess.Popen(
        site.argv((PROJECT, MOUS, ONE, TWO), None), cwd=site.work, env=site.environment(), stdout=subprocess.PIPE
    )
    yield process
    (site.folder / "go").touch()
    process.kill()
    process.communicate()


def until_read(process: subprocess.Popen[bytes], sought: bytes) -> bytes:
    """Its output up to these bytes; the test's own time-out is the limit."""
    assert process.stdout
    read = b""
    while sought not in read:
        some = os.read(process.stdout.fileno(), 4096)
        assert some, read
        read += some
    return read


def test_output_is_passed_on_as_it_comes(site: Site, running: subprocess.Popen[bytes]) -> None:
    """Half a line too."""
    until_read(running, b"half a li")
    (site.folder / "go").touch()
    out, _ = running.communicate(timeout=60)
    assert out.startswith(b"ne\n")
    assert running.returncode == 0


def casas(site: Site) -> list[int]:
    """Processes of this site's CASA."""
    mark = os.fsencode(site.folder / "casa.py")
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if mark in words and words[0] == os.fsencode(sys.executable):
            found.append(int(path.parent.name))
    return found


def test_ended_it_ends_casa(site: Site, running: subprocess.Popen[bytes]) -> None:
    """SIGTERM, as of a person who tries it by hand."""
    until_read(running, b"half a li")
    assert casas(site)
    running.send_signal(signal.SIGTERM)
    assert running.wait(60) == 143
    for _ in range(500):
        if not casas(site):
            break
        time.sleep(0.02)
    assert not casas(site)
    assert site.results() == []


def test_a_helper_that_casa_leaves_is_not_waited_for(site: Site) -> None:
    """It holds CASA's output open, and ours too were it a pipe."""
    site.leaves()
    site.script += "import subprocess; helper = subprocess.Popen(['sleep', '300']); print('helper', helper.pid)\n"
    outcome = site.run()
    assert outcome.status == 0
    helper = int(outcome.out.partition("helper ")[2].split()[0])
    os.kill(helper, signal.SIGKILL)


def test_much_output(site: Site) -> None:
    """Passed on whole, byte by byte, with what is no text."""
    site.script = "os.write(1, bytes(range(256)) * 20000 + b'\\n')\n"
    site.leaves()
    ended = subprocess.run(
        site.argv((PROJECT, MOUS, ONE, TWO), None), cwd=site.work, env=site.environment(), capture_output=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode == 0
    assert bytes(range(256)) * 20000 in ended.stdout


def test_the_log_cannot_be_written(site: Site) -> None:
    """A node whose disk is full."""
    site.leaves()
    site.work.mkdir()
    (site.work / "scriptforpi.log").mkdir()
    check_failed(site, site.run(), "scriptforpi.log cannot be written")
    shutil.rmtree(site.work / "scriptforpi.log")


# ── the watch itself ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_calibrator_that_believes_the_exit_status_is_caught(site: Site) -> None:
    """One that looks at nothing else calls failures done."""
    careless = TEXT.replace('judge "$@"\n', '[ "$status" -eq 0 ] || die failed\n')
    assert careless != TEXT
    site.text = careless
    wrong = []
    for number, (name, (prepare, _)) in enumerate(FAILURES.items()):
        if name.startswith(("not created, although", "another error", "killed")):
            one = Site(site.folder / str(number), text=careless)
            one.folder.mkdir()
            prepare(one)
            wrong.append(one.run().status == 0)
    assert any(wrong)
