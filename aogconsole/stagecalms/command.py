"""`stagecalms PROJCODE MOUSUID HELPDESKTICKETNUM`: the command, and which adapter stands behind each of its ports.

Exit status: 0 with the completion block only, 1 failed, 2 the words are wrong, 3 the configuration is.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import secrets
import shutil
import signal
import sys
from collections.abc import Coroutine, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NoReturn

from aogconsole import config
from aogconsole.config import Config
from aogconsole.errors import AogError, ConfigError, InvalidId, UsageError
from aogconsole.stagecalms.job import Job, Node
from aogconsole.text import clean

if TYPE_CHECKING:
    from aogconsole.stagecalms.staging import Site
    from backends.cluster_ports import Blocks, Cluster

USAGE = "stagecalms PROJCODE MOUSUID HELPDESKTICKETNUM"
STDOUT = 1
SLOW_READER = 5.0
"""Seconds at the end for a reader that takes nothing: a terminal that is stopped."""
_INTERRUPTIONS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class _Parser(argparse.ArgumentParser):
    """Wrong words are one sentence."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(clean(message), f"usage: {USAGE}")


def main() -> None:
    """Run the command."""
    _have_streams()
    try:
        status = _run(sys.argv[1:])
    except AogError as error:
        _complain(error)
        status = min(error.exit_code, 3) if isinstance(error, UsageError | ConfigError) else 1
    except OSError as error:
        if not isinstance(error, BrokenPipeError):
            _complain(AogError(f"{error.filename or 'the output could not be written'}: {error.strerror}"))
        status = 1
    for stream in filter(None, (sys.stdout, sys.stderr)):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    # not sys.exit: it waits for threads, and one that looks up a host's name or writes a tar to the disk takes its time
    os._exit(status)


def _have_streams() -> None:
    """A stream that we were started without would be the next file that we open: a lock, or a tar."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _run(argv: Sequence[str]) -> int:
    words = _parser().parse_args(argv)
    if words.version:
        from importlib.metadata import version

        print(f"stagecalms {version('aogconsole')}")
        return 0
    if words.print_calibrator:
        print(Path(__file__).with_name("scriptforpi.sh").read_text("utf-8"), end="")
        return 0
    if words.expire:
        _no_more(words, "--expire")
        return _expire(config.load(words.config), dry_run=words.dry_run)
    if words.dry_run:
        raise UsageError("--dry-run belongs to --expire", "usage: stagecalms --expire --dry-run")
    job = _job(words)
    early = _hear()
    return _stage(job, config.load(words.config), early)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="stagecalms",
        usage=f"{USAGE}\n       stagecalms --expire [--dry-run]",
        description="Generate the calibrated MeasurementSets of an ALMA MOUS on the cluster, and stage them.",
        allow_abbrev=False,
    )
    parser.add_argument("project", metavar="PROJCODE", nargs="?", help="such as 2012.1.00357.S")
    parser.add_argument("mous", metavar="MOUSUID", nargs="?", help="such as uid___A001_X133d_X1244")
    parser.add_argument("ticket", metavar="HELPDESKTICKETNUM", nargs="?", help="such as 15270, without #")
    parser.add_argument("--config", metavar="FILE", type=Path, help="the configuration")
    parser.add_argument("--expire", action="store_true", help="delete staged data that are older than the retention")
    parser.add_argument("--dry-run", action="store_true", help="with --expire: only say what would be deleted")
    parser.add_argument("--print-calibrator", action="store_true", help="print the calibrator for scriptForPI.py")
    parser.add_argument("--version", action="store_true", help="print the version")
    return parser


def _no_more(words: argparse.Namespace, option: str) -> None:
    if words.project is not None:
        raise UsageError(f"{option} takes no {clean(words.project)}", "see stagecalms --help")


def _job(words: argparse.Namespace) -> Job:
    for value, name, hint in (
        (words.project, "the project code", f"usage: {USAGE}"),
        (words.mous, "the MOUS UID", f"usage: {USAGE}"),
        (words.ticket, "the helpdesk ticket", "write its number alone: a shell takes #15270 for a comment"),
    ):
        if value is None:
            raise UsageError(f"{name} is missing", hint)
    return Job.parse(words.project, words.mous, words.ticket, secrets.token_hex(16))


def _complain(error: AogError) -> None:
    with contextlib.suppress(OSError):
        print(f"stagecalms: {clean(str(error))}", file=sys.stderr)
        if error.hint:
            print(f"  {clean(error.hint)}", file=sys.stderr)


# -- staging -------------------------------------------------------------------------------------------------------


def _heard() -> list[signal.Signals]:
    """The signals that tell us to stop; under nohup it stays as it is."""
    return [one for one in _INTERRUPTIONS if signal.getsignal(one) is not signal.SIG_IGN]


def _hear() -> list[int]:
    """From now on note signals: the failure block is owed, but nothing is there yet that could be stopped."""
    noted: list[int] = []
    for one in _heard():
        signal.signal(one, lambda number, _: noted.append(number))
    return noted


def _stage(job: Job, given: Config, noted: list[int]) -> int:
    site, cluster, blocks = site_of(given), cluster_of(given), blocks_of(given)
    _need_nodes(job, given)
    _need_programs()
    _forget_secrets(given)
    from aogconsole.stagecalms.staging import complain, stage
    from aogconsole.stagecalms.telling import Teller

    # its warning that a child which we have killed was waited for twice is no operator's business
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    teller = Teller(STDOUT, terminal=os.isatty(STDOUT))
    loop = asyncio.new_event_loop()
    staged = loop.run_until_complete(_until_told(stage(job, site, cluster, blocks, teller), noted))
    if not teller.close(SLOW_READER, hurry=noted or _hear()) and staged:
        complain("the data are staged and served, but not all of this could be written to standard output")
        return 1
    return 0 if staged else 1


def _need_nodes(job: Job, given: Config) -> None:
    from aogconsole.stagecalms.choice import is_old

    ours = given.settings.stagecalms
    if ours.engine == "ssh" and not ours.rhel5_nodes and is_old(job.project, ours.rhel5_before):
        raise ConfigError(
            f"stagecalms.rhel5_nodes names no node for projects before {ours.rhel5_before}",
            'name one, or set stagecalms.rhel5_before to an earlier year, or to "" for never',
        )


def _need_programs() -> None:
    if missing := [name for name in ("ssh", "rsync") if not shutil.which(name)]:
        raise ConfigError(
            f"the staging host has no {' and no '.join(missing)} in this account's path",
            "install OpenSSH's client and rsync on it",
        )


def _forget_secrets(given: Config) -> None:
    """Those that the environment holds are read by now: ssh, rsync and the site's command shall not have them."""
    for key, one in given.values.items():
        if key.endswith("password") and str(one.value).startswith("env:"):
            os.environ.pop(one.value.removeprefix("env:"), None)


async def _until_told(run: Coroutine[None, None, bool], noted: list[int]) -> bool:
    """Stage; the first signal, which may have been noted already, gives up, and later ones change nothing."""
    staging = asyncio.ensure_future(run)
    await asyncio.sleep(0)  # a task that is cancelled before it began would never tell

    def stop(number: int) -> None:
        if not noted:
            staging.cancel()
        noted.append(number)

    for one in _heard():
        asyncio.get_running_loop().add_signal_handler(one, stop, one)
    if noted:
        staging.cancel()
    return await staging


def site_of(given: Config) -> Site:
    """What one run needs of the configuration. Raises ConfigError."""
    from aogconsole.stagecalms.nodeside import is_folder
    from aogconsole.stagecalms.staging import Site

    given.need("stagecalms.calibrator", "stagecalms.url", "stagecalms.workdir")
    staging, ours = given.settings.staging, given.settings.stagecalms
    web_root = _web_root(given)
    workdir = PurePosixPath(ours.workdir)
    if not workdir.is_absolute():
        raise ConfigError(f"stagecalms.workdir is {clean(ours.workdir)}, which is no absolute path", "begin it with /")
    for key, value in (("workdir", workdir), ("web_root", web_root), ("url", ours.url)):
        if " " in str(value):
            raise ConfigError(f"stagecalms.{key} is {clean(str(value))}, which has a blank", "name one without")
    if not is_folder(workdir / "WORK10000"):
        raise ConfigError(
            f"stagecalms.workdir is {clean(ours.workdir)}, which cannot be the folder of working directories",
            "name one of letters a to z, digits and -_.+@=,: alone, and none of its folders with a dot first",
        )
    return Site(
        root=_root(given),
        slots=staging.slots,
        command=staging.command,
        days=staging.retention_days,
        web_root=web_root,
        url=ours.url,
        node_user=ours.node_user,
        workdir=workdir,
        calibrator=ours.calibrator,
        rhel5_calibrator=ours.rhel5_calibrator,
        rhel5_before=ours.rhel5_before,
        patience=ours.patience,
    )


def _root(given: Config) -> Path:
    """The folder of the runs: below the home when relative, as aogremote has it."""
    return config.located(given.settings.staging.root, "staging.root", Path.home())


def _web_root(given: Config) -> Path:
    given.need("stagecalms.web_root")
    return config.located(given.settings.stagecalms.web_root, "stagecalms.web_root", given.folder)


def _nodes(given: Config, key: str) -> tuple[Node, ...]:
    try:
        return tuple(Node.parse(text) for text in given.values[key].value)
    except InvalidId as error:
        raise ConfigError(f"{key}: {error}", error.hint) from None


def cluster_of(given: Config) -> Cluster:
    """The nodes, by the configured engine. Raises ConfigError."""
    from backends.cluster import ClusterSettings, SshCluster

    ours = given.settings.stagecalms
    given.need("stagecalms.node_user", *(("stagecalms.nodes",) if ours.engine == "ssh" else ()))
    nodes = ClusterSettings(
        nodes=_nodes(given, "stagecalms.nodes"),
        user=ours.node_user,
        rhel5_nodes=_nodes(given, "stagecalms.rhel5_nodes"),
        ssh_config=ours.ssh_config,
        probe_timeout=ours.probe_timeout,
        need=round(ours.room * 1e9),
    )
    if ours.engine == "ssh":
        return SshCluster(nodes)
    from backends.cluster_slurm import SlurmCluster, SlurmSettings

    return SlurmCluster(nodes, SlurmSettings(ours.sbatch, ours.sbatch_rhel5, ours.patience))


def blocks_of(given: Config) -> Blocks:
    """Who knows the execution blocks. Raises ConfigError."""
    command = given.settings.stagecalms.blocks
    if command:
        from backends.command_blocks import CommandBlocks

        return CommandBlocks(command)
    from backends.oracle_blocks import OracleBlocks, OracleSettings

    given.need("archive.dsn", "archive.user")
    archive = given.settings.archive
    queries = Path(archive.queries) if archive.queries else None
    return OracleBlocks(
        OracleSettings(archive.dsn, archive.user, given.secret("archive.password"), archive.timeout, queries)
    )


# -- expiry --------------------------------------------------------------------------------------------------------


def _expire(given: Config, *, dry_run: bool) -> int:
    from datetime import UTC, datetime

    from aogconsole.stagecalms.expiring import expire
    from aogconsole.stagecalms.records import Records

    web_root = _web_root(given)
    live = Records(_root(given)).live()
    days = given.settings.staging.retention_days
    failed, unwritten = False, None
    for decision in expire(web_root, days, live, datetime.now(UTC), dry_run=dry_run):
        failed = failed or decision.done == "failed"
        if unwritten is None:
            try:
                print(decision.line, flush=True)
            except OSError as error:  # what is due is deleted all the same
                unwritten = error
    if unwritten is not None:
        _complain(AogError(f"all was looked at, but the output could not be written: {unwritten.strerror}"))
    return 1 if failed or unwritten else 0


if __name__ == "__main__":
    main()
