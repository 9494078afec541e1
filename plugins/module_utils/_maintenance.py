# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The maintenance page: what nginx is told, where it can be told it, and when it ends.

All of it is one file that belongs inside a C{server} block, so that it is there whole or not at
all. nginx itself compares the time with the page's end, at each request: the page lifts itself
whether or not anybody comes back, and whatever is restarted in between.
"""

from __future__ import annotations

import datetime
import html
import ipaddress
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

from ansible_collections.pynomaly.ops.plugins.module_utils._nginx_hook import (
    MARKER,
    Network,
    at_or_after,
    network_pattern,
    read_facts,
    with_facts,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._operation import describe_duration
from ansible_collections.pynomaly.ops.plugins.module_utils._utc import parse_utc, utc_text

#: What the page's answers carry, so that they are told from any other 503.
MARKER_HEADER = "X-Maintenance"
#: Whoever sends this header with this value gets the page, exempt or not, while there is one.
PROBE_HEADER = "X-Maintenance-Probe"
PROBE_VALUE = "show"

FILE_STEM = "pynomaly-maintenance"
DEFAULT_MESSAGE = "The service is being worked on and will be back soon."
MAX_DURATION_SECONDS = 7 * 86400
MAX_MESSAGE_CHARACTERS = 500
MAX_NETWORKS = 256

_HEADER = "# Written by pynomaly.ops: ansible-playbook pynomaly.ops.maintenance"
_LOCATION = "/.pynomaly-maintenance/"
_DURATION = re.compile(r"(?:(\d{1,6})d)?(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,6})s)?\Z")
_DURATION_SECONDS = (86400, 3600, 60, 1)
_PATH = re.compile(r"/(?:[A-Za-z0-9_~-][A-Za-z0-9_.~-]*/)*(?:[A-Za-z0-9_~-][A-Za-z0-9_.~-]*)?\Z")
_PATH_CHILD = "[A-Za-z0-9_~-][A-Za-z0-9_.~-]*"


class MaintenanceError(Exception):
    """The page cannot be what was asked. The text says what was seen and expected; ``hint`` is
    what to run next."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class NoPageError(MaintenanceError):
    """This stack has nothing that could show a page."""


@dataclass(frozen=True)
class Page:
    """``until`` is the end, in UTC, to the second. ``allow`` are addresses and networks that get
    the service itself; ``exempt_paths`` are paths that everybody gets, one that ends in a slash
    with what is directly below it."""

    until: datetime.datetime
    message: str = DEFAULT_MESSAGE
    allow: Sequence[str] = ()
    exempt_paths: Sequence[str] = ("/health", "/health/")
    retry_after_seconds: int = 120


# When it ends


def parse_duration(text: str, name: str = "for") -> int:
    """Seconds in C{90s}, C{30m}, C{24h}, C{2d} or C{1h30m}. Raises L{MaintenanceError}."""
    match = _DURATION.match(text.strip().lower())
    groups = match.groups() if match else ()
    if not any(groups):
        raise MaintenanceError(f"{name}: seen {text!r}, expected a time such as 30m, 24h or 1h30m")
    return sum(int(count or 0) * size for count, size in zip(groups, _DURATION_SECONDS))


def end_time(duration: str, until: str, now: datetime.datetime) -> datetime.datetime:
    """When the page ends: at ``until`` (ISO 8601) where that is given, else after ``duration``.

    Raises L{MaintenanceError} for what is past, or further away than a page may stay.
    """
    if until:
        try:
            end = parse_utc(until)
        except ValueError as error:
            raise MaintenanceError(
                f"until: seen {until!r}, expected a time such as 2026-01-31T22:00:00Z"
            ) from error
    else:
        end = now + datetime.timedelta(seconds=parse_duration(duration))
    end = end.replace(microsecond=0)
    seconds = (end - now).total_seconds()
    if seconds <= 0:
        raise MaintenanceError(f"the page's end is {utc_text(end)}, expected one that is to come")
    if seconds > MAX_DURATION_SECONDS:
        days = MAX_DURATION_SECONDS // 86400
        raise MaintenanceError(f"the page's end is {utc_text(end)}, expected {days} days at most")
    return end


def is_past(page: Mapping[str, Any], now: datetime.datetime) -> bool:
    """Whether a page, as its file describes it, has lifted itself."""
    return parse_utc(page["until"]) <= now


# Who is let through


def parse_networks(texts: Iterable[str]) -> list[Network]:
    """Addresses and networks, each once. Raises L{MaintenanceError} for what is none, and for one
    that everybody is in."""
    found: list[Network] = []
    for text in texts:
        try:
            network = ipaddress.ip_network(text.strip())
        except ValueError as error:
            raise MaintenanceError(
                f"allow: seen {text!r} ({error}), expected addresses or networks such as "
                "203.0.113.7 or 2001:db8::/48"
            ) from error
        if network.prefixlen == 0:
            raise MaintenanceError(f"allow: seen {text!r}, expected less than everybody")
        if network not in found:
            found.append(network)
    if len(found) > MAX_NETWORKS:
        raise MaintenanceError(
            f"allow: seen {len(found)} networks, expected {MAX_NETWORKS} at most"
        )
    return found


def path_pattern(path: str) -> str:
    """A regular expression for the request targets of an exempt path.

    The target is compared as it was sent, so that no C{..} in it leads elsewhere. Raises
    L{MaintenanceError} for a path that is not plain.
    """
    if path == "/" or not _PATH.match(path):
        raise MaintenanceError(
            f"exempt path: seen {path!r}, expected one such as /health, of letters, digits and -_.~"
        )
    child = _PATH_CHILD if path.endswith("/") else ""
    return f"^{path.replace('.', '[.]')}{child}(?:[?]|\\z)"


# What nginx is told


def fragment(page: Page) -> str:
    """The file's text. Raises L{MaintenanceError} for a page that is none."""
    networks = parse_networks(page.allow)
    message = " ".join(page.message.split())
    if not message or len(message) > MAX_MESSAGE_CHARACTERS or not message.isprintable():
        raise MaintenanceError(
            f"message: seen {len(message)} characters, expected 1 to {MAX_MESSAGE_CHARACTERS} "
            "that can be printed"
        )
    if not 1 <= page.retry_after_seconds <= MAX_DURATION_SECONDS:
        raise MaintenanceError(
            f"retry_after_seconds: seen {page.retry_after_seconds}, "
            f"expected 1 to {MAX_DURATION_SECONDS}"
        )
    facts = {
        "until": utc_text(page.until),
        "message": message,
        "allow": [str(network) for network in networks],
        "exempt_paths": list(page.exempt_paths),
    }
    epoch = int(page.until.timestamp())
    lines = [
        "set $pynomaly_maintenance json;",
        # The first of the two that the client names; an API's clients that name none get JSON.
        _if('$http_accept ~* "^(?:(?!application/(?:[a-z.-]+[+])?json).)*text/html"', "html"),
        *(_if(f'$request_uri ~ "{path_pattern(path)}"', '""') for path in page.exempt_paths),
        *(_if(f'$binary_remote_addr ~ "{network_pattern(one)}"', '""') for one in networks),
        _if(f'$http_{PROBE_HEADER.lower().replace("-", "_")} = "{PROBE_VALUE}"', "json"),
        _if(f'$msec ~ "^{at_or_after(epoch)}[.]"', '""'),
        "if ($pynomaly_maintenance) {",
        f"    rewrite ^ {_LOCATION}$pynomaly_maintenance? last;",
        "}",
        *_location("html", "text/html", html_page(message, page.until), page),
        *_location("json", "application/json", json_page(message, page.until), page),
    ]
    return with_facts(_HEADER, facts, lines)


def _if(condition: str, value: str) -> str:
    return f"if ({condition}) {{\n    set $pynomaly_maintenance {value};\n}}"


def _location(name: str, content_type: str, text: str, page: Page) -> Iterator[str]:
    yield f"location = {_LOCATION}{name} {{"
    yield "    internal;"
    yield "    client_max_body_size 0;"
    yield "    types { }"
    yield f"    default_type {content_type};"
    yield f'    add_header Retry-After "{page.retry_after_seconds}" always;'
    yield '    add_header Cache-Control "no-store" always;'
    yield '    add_header Vary "Accept" always;'
    yield f'    add_header {MARKER_HEADER} "{MARKER}" always;'
    # With a text of its own, an error_page of the server's has no say.
    yield f"    return 503 {_quoted(text)};"
    yield "}"


def _quoted(text: str) -> str:
    """As one word of nginx's configuration, in which a dollar sign would begin a variable's name
    and cannot be escaped: there must be none."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _until_text(until: datetime.datetime) -> str:
    return f"{until:%Y-%m-%d %H:%M} UTC"


def html_page(message: str, until: datetime.datetime) -> str:
    """A page that needs nothing else, in ASCII, without a dollar sign or a backslash."""
    escaped = html.escape(message).encode("ascii", "xmlcharrefreplace").decode()
    escaped = escaped.replace("$", "&#36;").replace("\\", "&#92;")
    return (
        "<!doctype html>\n"
        "<html lang='en'><head><meta name='viewport' content='width=device-width'>"
        "<title>Maintenance</title>"
        "<style>body{font:1.1rem/1.5 system-ui,sans-serif;max-width:36rem;margin:20vh auto;"
        "padding:0 1rem;color:#222;background:#fff}</style></head>\n"
        f"<body><h1>Maintenance</h1><p>{escaped}</p>"
        f"<p>Expected back by {_until_text(until)}.</p></body></html>\n"
    )


def json_page(message: str, until: datetime.datetime) -> str:
    """The same for programs, in ASCII, without a dollar sign."""
    document = {"error": "maintenance", "detail": message, "until": utc_text(until)}
    return json.dumps(document).replace("$", "\\u0024") + "\n"


def describe_fragment(text: str) -> Optional[dict[str, Any]]:
    """What a file of ours says of its page (marker, until, message, allow, exempt_paths); C{None}
    for any other file."""
    facts = read_facts(_HEADER, text)
    try:
        return facts if facts is not None and parse_utc(facts["until"]) else None
    except (ValueError, KeyError, TypeError):
        return None


def page_lines(answer: Mapping[str, Any], now: datetime.datetime) -> list[str]:
    """What people read of the page, out of what the module returns."""
    if not answer["shown"]:
        expired = f", it ended at {answer['until']}" if answer.get("expired") else ""
        return [f"maintenance page: off{expired}"]
    lines = ["maintenance page: on"]
    if answer.get("until"):
        left = describe_duration((parse_utc(answer["until"]) - now).total_seconds())
        lines[0] += f" until {answer['until']} ({left} left)"
        lines.append(f"it says: {answer['message']}")
        lines.append(f"exempt: {', '.join([*answer['exempt_paths'], *answer['allow']])}")
    if answer.get("health_status"):
        lines.append(f"health beside it: HTTP {answer['health_status']}")
    return lines
