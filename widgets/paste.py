"""A mail as text: pasted from a terminal or a webmail page, taken in as if it came now."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.widgets import Static, TextArea

from aogconsole.requests import mbox
from aogconsole.text import clean
from widgets.areas import AreaDialog


class PasteScreen(AreaDialog):
    """Gives the text of one mail, or of several (mbox); None when there is nothing to take."""

    DEFAULT_CSS = """
    PasteScreen #found { height: 1; text-style: bold; }
    """
    THROW_AWAY = "Throw the mail away?"

    def __init__(self, written: str = "", trouble: str = "") -> None:
        """`written` was here before, and `trouble` came of it."""
        lines = ("Paste it: From:, Subject:, an empty line, the text. Received now.",)
        super().__init__("Take in a mail", lines, written=written)
        self._trouble = trouble

    def on_mount(self) -> None:
        """What was written before could not be taken in."""
        self._look()
        self.tell(self._trouble)

    def body(self) -> ComposeResult:
        """The area, and below it what the text is taken for."""
        yield from super().body()
        yield Static("nothing yet", id="found", markup=False)

    def on_text_area_changed(self, event: TextArea.Changed) -> None:
        """Say what would be taken in."""
        if self.text != self._written:
            self.tell("")
        self._look()

    def _look(self) -> None:
        self.query_one("#found", Static).update(summary(self.text))

    def wrong(self, text: str) -> str:
        """A mail needs a sender, a subject and a text."""
        return wrong_mail(text)


def _headers(text: str) -> dict[str, str]:
    head, _, _ = text.lstrip("\n").partition("\n\n")
    pairs = (line.partition(":") for line in head[:20_000].split("\n") if line[:1].strip())
    return {name.strip().lower(): value.strip() for name, colon, value in pairs if colon}


def _first(text: str) -> tuple[str, int]:
    """The first mail of the text, and how many there are."""
    mails = mbox.split(text.encode("utf-8", "backslashreplace"))
    return mails[0].decode("utf-8"), len(mails)


def summary(text: str) -> str:
    """What a text is taken for, in a line."""
    if not text.strip():
        return "nothing yet"
    mail, count = _first(text)
    headers = _headers(mail)
    missing = [name for name in ("From", "Subject") if not headers.get(name.lower())]
    if missing:
        return f"no {' and no '.join(f'{name}: line' for name in missing)} yet"
    more = f" and {count - 1} more" if count > 1 else ""
    return clean(f"1 mail{more} · from {headers['from']} · {headers['subject']}")


def wrong_mail(text: str) -> str:
    """What is missing in a text that is to be a mail, in a sentence."""
    if not text.strip():
        return "there is no mail yet: paste one"
    mail, _ = _first(text)
    missing = next((name for name in ("From", "Subject") if not _headers(mail).get(name.lower())), "")
    if missing:
        return f"a mail begins with its headers: a line {missing}: is missing"
    if not mail.lstrip("\n").partition("\n\n")[2].strip():
        return "an empty line ends the headers, then comes the text: that is missing"
    return ""
