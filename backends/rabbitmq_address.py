"""Where RabbitMQ is, and how pika is told."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from pika import ConnectionParameters, PlainCredentials  # type: ignore[import-untyped]

from aogconsole.errors import ConfigError
from aogconsole.text import clean

HEARTBEAT = 20
"""Seconds; a peer that is silent for two of them is given up."""
BLOCKED = 300.0
"""Seconds after which a connection that the broker blocks is made anew."""
GUEST = "guest"
"""RabbitMQ's own account, with itself as password; from the broker's host only."""
_URL_HINT = "write it like amqp://user@rabbit.example.org:5672/vhost, user and vhost percent-encoded"


@dataclass(frozen=True)
class Address:
    """Where the broker is, read from `amqp://user@host:port/vhost`.

    A password in the URL counts when no other is given; without a user it is the broker's `guest`."""

    host: str
    port: int
    vhost: str
    user: str
    password: str = field(repr=False)
    tls: ssl.SSLContext | None

    @classmethod
    def parse(cls, url: str, password: str = "", ca: str = "") -> Address:
        """Read it. Raises ConfigError."""
        try:
            parts = urlsplit(url)
            port = parts.port or (5671 if parts.scheme == "amqps" else 5672)
        except ValueError as error:
            raise ConfigError(f"the broker's address is no URL: {clean(str(error))}", _URL_HINT) from None
        if parts.scheme not in ("amqp", "amqps") or not parts.hostname:
            raise ConfigError("the broker's address is no amqp URL with a host", _URL_HINT)
        if parts.query or parts.fragment or parts.path.count("/") > 1:
            raise ConfigError("the broker's URL has more than user, host, port and vhost", _URL_HINT)
        tls = _context(ca) if parts.scheme == "amqps" else None
        user = unquote(parts.username) if parts.username else GUEST
        password = password or (unquote(parts.password) if parts.password else "" if parts.username else GUEST)
        return cls(parts.hostname, port, unquote(parts.path[1:]) or "/", user, password, tls)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        kind = "amqps" if self.tls else "amqp"
        return clean(f"{kind}://{quote(self.user, safe='')}@{host}:{self.port}/{quote(self.vhost, safe='')}")

    def parameters(self, name: str) -> Any:
        """Them as pika wants them; `name` is what the broker's administrator sees."""
        return ConnectionParameters(
            self.host, self.port, self.vhost, PlainCredentials(self.user, self.password), heartbeat=HEARTBEAT,
            blocked_connection_timeout=BLOCKED,
            client_properties={"connection_name": name, "product": "aogconsole"},
        )  # fmt: skip


def _context(ca: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca or None)
    except OSError as error:
        said = clean(error.strerror or str(error))
        raise ConfigError(f"broker.ca cannot be used: {clean(ca)}: {said}", "name a file of PEM certificates") from None
