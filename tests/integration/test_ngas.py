"""NGAS over HTTP: what is given is the file, or an error that says what is the matter."""

from __future__ import annotations

import asyncio
import time

import pytest

from aogconsole.errors import ConfigError, NgasError, NgasMissing
from backends.ngas import HttpNgas
from tests.support.ngas import Fault, Ngas

DATA = b"<ScanTable/>" * 50_000


async def fetched(adapter: HttpNgas, file_id: str) -> bytes:
    """A whole file."""
    return b"".join([chunk async for chunk in adapter.retrieve(file_id)])


async def test_a_file_comes_as_it_is(ngas: Ngas) -> None:
    """Byte for byte, whatever its name, by way of another node too; and its STATUS is asked."""
    name = "uid___A002_X1_X2/Scan & ä#?=.xml"
    ngas.files[name] = DATA
    adapter = HttpNgas(ngas.url + "/")
    assert await fetched(adapter, name) == DATA
    ngas.faults.append("elsewhere")
    assert await fetched(adapter, name) == DATA
    assert "NGAS answers" in await adapter.ping()


async def test_a_file_that_is_not_there_is_missing(ngas: Ngas) -> None:
    """By status 400 with NGAS' own document, and by the same document with status 200."""
    adapter = HttpNgas(ngas.url)
    with pytest.raises(NgasMissing, match=r"nothing\.xml: NGAMS_ER_UNAVAIL_FILE"):
        await fetched(adapter, "nothing.xml")
    ngas.faults.append("failed with 200")
    with pytest.raises(NgasMissing):
        await fetched(adapter, "nothing.xml")


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("drop", "broke off"),
        ("not http", "broke off"),
        ("short", "broke off in f after"),
        ("hang", "is silent"),
        ("loop", "in circles"),
        ("busy", "HTTP 503"),
        ("zipped", "compressed"),
        ("endless", "larger than"),
    ],
)
async def test_less_than_the_whole_file_is_an_error(ngas: Ngas, fault: Fault, said: str) -> None:
    """Never taken for the file, never for its absence, and never waited for without end."""
    ngas.files["f"] = DATA
    ngas.faults.extend([fault] * 9)  # a request that met a closed line is sent once more
    started = time.monotonic()
    with pytest.raises(NgasError, match=said) as caught:
        await fetched(HttpNgas(ngas.url, timeout=0.4, largest=1 << 22), "f")
    assert not isinstance(caught.value, NgasMissing)
    assert str(caught.value).isprintable()
    assert time.monotonic() - started < 5


async def test_a_drop_by_drop_answer_is_bounded(ngas: Ngas) -> None:
    """A server that always sends a little is met by the time for the whole."""
    ngas.files["f"] = DATA
    ngas.faults.append("endless")
    with pytest.raises(NgasError, match="silent"):
        async with asyncio.timeout(10):
            await fetched(HttpNgas(ngas.url, total=0.3), "f")


async def test_nobody_there_and_somebody_else_there(ngas: Ngas) -> None:
    """A closed port, and a web server that is no NGAS."""
    with Ngas() as gone:
        url = gone.url
    with pytest.raises(NgasError, match="cannot be reached: Connection refused"):
        await fetched(HttpNgas(url), "f")
    with pytest.raises(NgasError, match=r"is no NGAS \(HTTP 404\)"):
        await HttpNgas(f"{ngas.url}/elsewhere").ping()


async def test_who_sends_us_elsewhere_is_not_who_is_away(ngas: Ngas) -> None:
    """The node that we were sent to is named, and who sent us; and one that is there gives the file."""
    with Ngas() as other:
        there = other.url
        other.files["f"] = DATA
        ngas.sent_to.append(f"{there}/RETRIEVE?file_id=f")
        assert await fetched(HttpNgas(ngas.url), "f") == DATA
        other.faults.extend(["hang"] * 2)
        ngas.sent_to.append(f"{there}/RETRIEVE?file_id=f")
        with pytest.raises(NgasError, match=f"{there.removeprefix('http://')} is silent"):
            await fetched(HttpNgas(ngas.url, timeout=0.2), "f")
    ngas.sent_to.append(f"{there}/RETRIEVE?file_id=f")
    with pytest.raises(NgasError, match=f"{there.removeprefix('http://')} cannot be reached") as caught:
        await fetched(HttpNgas(ngas.url), "f")
    assert f"{ngas.url.removeprefix('http://')} sends us there" in caught.value.hint


@pytest.mark.parametrize("to", ["file:///etc/passwd", "ftp://node/f", "http:///f", "gopher:f", "http://[", ""])
async def test_only_http_is_followed(ngas: Ngas, to: str) -> None:
    """Whatever else we are sent to is refused with a sentence."""
    ngas.files["f"] = DATA
    ngas.sent_to.append(to)
    with pytest.raises(NgasError, match=r"sends us to|not an? address|did not give") as caught:
        await fetched(HttpNgas(ngas.url), "f")
    assert str(caught.value).isprintable()
    assert "broke off" not in str(caught.value)


@pytest.mark.parametrize("url", ["", "ngas:7777", "ftp://h/", "http://u:secret@h/", "http://h/?a=b", "http://"])
def test_an_address_that_cannot_be_is_a_fault_of_the_configuration(url: str) -> None:
    """One sentence, without the password that stands in it."""
    with pytest.raises(ConfigError) as caught:
        HttpNgas(url)
    assert "secret" not in str(caught.value)
