# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""HTTP without a network: where to ask, what to send, and how to show an answer."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Optional
from urllib.parse import quote, urlsplit

#: Marks the requests of the check, so that it can leave them out of what it counts.
USER_AGENT = "pynomaly-ops-check"

DEFAULT_PORTS: Mapping[str, int] = {"http": 80, "https": 443}

EXCERPT_CHARACTERS = 120

#: Characters that RFC 3986 allows in a path and query; everything else is sent percent-encoded.
_REQUEST_TARGET_SAFE = "/?#[]@!$&'()*+,;=:%-._~"

_MASK = "***"
_SENSITIVE_NAME = (
    r"[\w-]*(?:passw(?:or)?d|passwd|secret|token|api[_-]?key|credential|authorization)\w*"
)
_SENSITIVE_PATTERNS = (
    # scheme://user:password@host
    (re.compile(r"(?<=://)[^\s/@\"']+@"), f"{_MASK}@"),
    # Authorization: Bearer X, and a bearer or basic token on its own
    (re.compile(r"\b(bearer|basic)\s+[\w.~+/=-]{6,}", re.IGNORECASE), rf"\1 {_MASK}"),
    # name=value, name: value, "name": "value"
    (
        re.compile(
            rf"(\b{_SENSITIVE_NAME}[\"']?\s*[=:]\s*)(\"[^\"]*\"?|'[^']*'?|(?!bearer|basic)[^\s,;&}}]+)",
            re.IGNORECASE,
        ),
        rf"\1{_MASK}",
    ),
)
_SECRET_VARIABLE = re.compile(r"PASSW(OR)?D|SECRET|TOKEN|KEY|CREDENTIAL", re.IGNORECASE)
_URL_PASSWORD = re.compile(r"://[^\s:/@]*:([^\s@]+)@")
#: Shorter values are words of everyday life ("dev", "api"), and masking those garbles a message.
_SECRET_MIN_CHARACTERS = 6


@dataclass(frozen=True)
class Endpoint:
    """Where to connect, and under which name.

    ``server_name`` is what is asked for in SNI and in the Host header, where it differs from
    ``host``. ``base_path`` stands before each path and has no slash at its end.
    """

    scheme: str
    host: str
    port: int
    server_name: Optional[str] = None
    base_path: str = ""

    @property
    def netloc(self) -> str:
        """HOST:PORT, with the brackets that an IPv6 address needs."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def url(self, path: str = "") -> str:
        """The address for a message."""
        return f"{self.scheme}://{self.netloc}{self.base_path}{path}"

    @property
    def host_header(self) -> str:
        """A service that only answers to names it knows commonly knows C{localhost}, not the
        address of it."""
        name = self.server_name
        if name is None:
            name = "localhost" if is_loopback(self.host) else self.host
        if ":" in name:
            name = f"[{name}]"
        return name if self.port == DEFAULT_PORTS[self.scheme] else f"{name}:{self.port}"


def is_address(host: str) -> bool:
    """Whether the text is an IPv4 or IPv6 address, and needs no resolving."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    return is_address(host) and ipaddress.ip_address(host).is_loopback


def loopback(host_ip: str) -> str:
    """The address under which the host itself reaches a port published on ``host_ip``."""
    if host_ip in ("", "0.0.0.0"):
        return "127.0.0.1"
    return "::1" if host_ip == "::" else host_ip


def parse_url(text: str, server_name: Optional[str] = None) -> Endpoint:
    """The endpoint behind a base URL that a user set.

    Raises L{ValueError} where it is no http or https URL, or carries credentials, a query or a
    fragment.
    """
    what = "expected http://HOST[:PORT][/PATH] or https://..."
    try:
        parts = urlsplit(text.strip())
        port = parts.port
    except ValueError as error:
        raise ValueError(f"this is no usable URL ({error}), {what}") from error
    if parts.username is not None or parts.password is not None:
        raise ValueError(f"the URL carries credentials, {what} without them")
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
        raise ValueError(f"{text!r} is no usable URL, {what}")
    if parts.query or parts.fragment:
        raise ValueError(f"{text!r} has a query or a fragment, {what}")
    return Endpoint(
        scheme=parts.scheme,
        host=parts.hostname,
        port=DEFAULT_PORTS[parts.scheme] if port is None else port,
        server_name=server_name,
        base_path=parts.path.rstrip("/"),
    )


def build_request(
    endpoint: Endpoint, path: str, headers: Mapping[str, str], method: str = "GET"
) -> bytes:
    """A request without a body that asks for the connection to be closed after the answer.

    Raises L{ValueError} for a header with a line break in it.
    """
    target = quote(endpoint.base_path + path, safe=_REQUEST_TARGET_SAFE) or "/"
    if not target.startswith("/"):
        target = f"/{target}"
    fields = {
        "Host": endpoint.host_header,
        "User-Agent": USER_AGENT,
        "Accept": "*/*",
        "Accept-Encoding": "identity",
        "Connection": "close",
        **headers,
    }
    lines = [f"{method} {target} HTTP/1.1"]
    for name, value in fields.items():
        if re.search(r"[\r\n\0]", f"{name}{value}"):
            raise ValueError(f"the header {name!r} has a line break in it")
        lines.append(f"{name}: {value}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")


def known_secrets(environment: Mapping[str, str]) -> list[str]:
    """The values in a container's environment that must not be shown, longest first: those of
    variables named like a secret, and passwords inside URLs."""
    secrets = set()
    for name, value in environment.items():
        if _SECRET_VARIABLE.search(name) and not name.upper().endswith("_FILE"):
            secrets.add(value)
        secrets.update(_URL_PASSWORD.findall(value))
    return sorted(
        (secret for secret in secrets if len(secret) >= _SECRET_MIN_CHARACTERS),
        key=lambda secret: (-len(secret), secret),
    )


def scrub(text: str, secrets: Iterable[str] = ()) -> str:
    """The text without the given secrets, and without what looks like one."""
    for secret in secrets:
        text = text.replace(secret, _MASK)
    for pattern, replacement in _SENSITIVE_PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def excerpt(
    text: str | bytes, secrets: Iterable[str] = (), characters: int = EXCERPT_CHARACTERS
) -> str:
    """The beginning of foreign text on one line, fit to be shown: scrubbed, nothing unprintable,
    an ellipsis where it was cut."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    # Scrubbed before it is cut, else the cut could hide from the patterns half of a secret.
    text = scrub(text[: 64 * 1024], secrets)
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= characters else text[: characters - 1].rstrip() + "…"


def without_query(target: str) -> str:
    """The path of a request's target (C{/a?b=c} or C{http://host/a}), queries being where
    secrets and endless variety live."""
    path = target.split("?", 1)[0].split("#", 1)[0]
    if "://" in path:
        path = "/" + path.split("://", 1)[1].partition("/")[2]
    return path or "/"
