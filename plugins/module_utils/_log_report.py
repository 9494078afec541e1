# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a scan of logs comes to: offenders by score, who can be blocked, and tables for a report."""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

from ansible_collections.pynomaly.ops.plugins.module_utils._log_lines import mask_secrets
from ansible_collections.pynomaly.ops.plugins.module_utils._log_patterns import (
    BRUTE_FORCE_LOGINS,
    BRUTE_FORCE_LOGINS_PER_MINUTE,
    PATTERNS,
    SCANNING_PATHS,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._log_scan import (
    API,
    NGINX,
    POSTGRES,
    REDIS,
    Network,
    Scan,
    Suspect,
    is_within,
    record_facts,
    requests_of,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._report_text import (
    format_bytes,
    plural,
)

DEFAULT_BLOCK_SCORE = 40
MAX_SCORE = 100
_EXAMPLE_CHARACTERS = 200
_REASONS = 8
_SPARED_SHOWN = 5

#: What a query may carry that nobody else should read, by the parameter's name.
_QUERY_SECRET = re.compile(
    r"([?&;\s][\w.%-]{0,40}(?:pass|pwd|secret|token|key|auth|sess|sig|code|jwt|credential)"
    r"[\w.%-]{0,40}(?:=|%3d))[^&\s\"]+",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Choice:
    """What of a scan is told. ``never_block`` has networks and why none of their addresses is
    blocked; ``wanted`` are the networks asked for, all where it is empty."""

    top: int = 20
    block_score: int = DEFAULT_BLOCK_SCORE
    wanted: Sequence[Network] = ()
    never_block: Sequence[tuple[Network, str]] = ()


def example_text(raw: bytes) -> str:
    """A piece of a log, printable and without secrets."""
    text = raw.decode("utf-8", "backslashreplace")
    text = "".join(one if one.isprintable() else f"\\x{ord(one):02x}" for one in text)
    text = mask_secrets(_QUERY_SECRET.sub(r"\1***", text))
    if len(text) > _EXAMPLE_CHARACTERS:
        text = text[: _EXAMPLE_CHARACTERS - 1] + "…"
    return text


def findings(suspects: Iterable[Suspect]) -> dict[str, int]:
    """How often each pattern was seen, with what follows from numbers: brute force and scanning."""
    counts: dict[str, int] = {}
    paths = fastest = 0
    for suspect in suspects:
        for name, count in suspect.counts.items():
            counts[name] = counts.get(name, 0) + count
        # nginx and the API tell of the same paths.
        paths = max(paths, suspect.paths_not_found)
        fastest = max(fastest, suspect.logins_per_minute)
    logins = counts.get("failed_login", 0)
    if logins >= BRUTE_FORCE_LOGINS or fastest >= BRUTE_FORCE_LOGINS_PER_MINUTE:
        counts["brute_force"] = logins
    if paths >= SCANNING_PATHS:
        counts["scanning"] = paths
    return counts


def score(counts: Mapping[str, int]) -> int:
    """From 0 to L{MAX_SCORE}: the sum of what each pattern weighs, see C{PATTERNS}."""
    return min(MAX_SCORE, sum(PATTERNS[name].points(count) for name, count in counts.items()))


def build(scan: Scan, choice: Choice, remarks: Sequence[str] = ()) -> dict[str, Any]:
    """All that the module returns of a scan, with tables; ``remarks`` are those of reading."""
    web = NGINX if scan.access_lines[NGINX] or not scan.access_lines[API] else API
    clients = scan.clients[web]
    sources = _sources(web)
    scores = {
        key: score(findings(_parts(scan, key, sources)))
        for key in {key for kind in sources for key in scan.suspects[kind].records}
    }
    if choice.wanted:  # what was asked for is told, were it harmless
        scores.update({key: 0 for key in clients.records if key not in scores})
        scores = {key: one for key, one in scores.items() if is_within(key, choice.wanted)}
    ranked = sorted(
        (key for key, points in scores.items() if points > 0 or choice.wanted),
        key=lambda key: (-scores[key], -_requests(scan, web, key), key),
    )
    high = [key for key in ranked if scores[key] >= choice.block_score]
    spared = {key: why for key in high for why in [_why_not(scan, key, choice)] if why}
    blockable = [key for key in high if key not in spared]
    busiest = sorted(
        (key for key in clients.records if not choice.wanted or key in scores),
        key=lambda key: (-_requests(scan, web, key), key),
    )
    answer: dict[str, Any] = {
        "lines": scan.lines,
        "bytes": scan.bytes,
        "first_seen": _moment(scan.first),
        "last_seen": _moment(scan.last),
        "source": web,
        "requests": scan.access_lines[web],
        "statuses": scan.statuses(web),
        "clients": {
            "count": len(clients.records),
            "is_lower_bound": clients.error > 0,
            "requests_too_low_by_at_most": clients.error,
            "suspects_too_low_by_at_most": max(scan.suspects[kind].error for kind in sources),
        },
        "patterns": _totals(scan, sources),
        "failed_logins": _failed_logins(scan),
        "not_understood": dict(sorted(scan.not_understood.items())),
        "not_believed": scan.not_believed,
        "nginx_errors": scan.nginx_errors,
        "offenders": [_entry(scan, key, web, sources, choice) for key in ranked[: choice.top]],
        "offenders_count": len(ranked),
        "busiest": [_entry(scan, key, web, sources, choice) for key in busiest[: choice.top]],
        "block": ",".join(blockable[: choice.top]),
        "remarks": [*remarks, *_remarks(scan, web), *_block_remarks(spared, blockable, choice)],
    }
    answer["tables"] = tables(answer)
    return answer


def _sources(web: str) -> list[str]:
    """Whose findings count. Behind nginx the API's clients are what a header says, or nginx."""
    return [web, POSTGRES, REDIS]


def _parts(scan: Scan, key: str, sources: Sequence[str]) -> list[Suspect]:
    kinds = (scan.suspects[kind].records for kind in sources)
    return [records[key] for records in kinds if key in records]


def _requests(scan: Scan, web: str, key: str) -> int:
    record = scan.clients[web].records.get(key)
    return 0 if record is None else requests_of(record)


def _entry(
    scan: Scan, key: str, web: str, sources: Sequence[str], choice: Choice
) -> dict[str, Any]:
    record = scan.clients[web].records.get(key)
    parts = {
        kind: scan.suspects[kind].records[key]
        for kind in sources
        if key in scan.suspects[kind].records
    }
    counts = findings(parts.values())
    facts = record_facts(record)
    moments = [facts["first"], facts["last"]] + [
        moment for one in parts.values() for moment in (one.first, one.last)
    ]
    seen = sorted(moment for moment in moments if moment)
    points = score(counts)
    why_not = _why_not(scan, key, choice)
    return {
        "address": key,
        "score": points,
        "requests": facts["requests"],
        "requests_at_most": scan.clients[web].most(key),
        "statuses": facts["statuses"],
        "bytes": facts["bytes"],
        "first_seen": _moment(seen[0] if seen else b""),
        "last_seen": _moment(seen[-1] if seen else b""),
        "patterns": dict(sorted(counts.items(), key=lambda one: (-PATTERNS[one[0]].most, one[0]))),
        "logins_failed_per_minute": max(
            (one.logins_per_minute for one in parts.values()), default=0
        ),
        "paths_not_found_at_least": max((one.paths_not_found for one in parts.values()), default=0),
        "sources": [kind for kind in sources if kind in parts or (kind == web and record)],
        "reasons": _reasons(counts),
        "examples": [
            {"pattern": name, "text": example_text(raw)}
            for one in parts.values()
            for name, raw in one.examples.items()
        ],
        "block": points >= choice.block_score and not why_not,
        "why_not": why_not,
    }


def _reasons(counts: Mapping[str, int]) -> list[str]:
    ranked = sorted(counts, key=lambda name: (-PATTERNS[name].points(counts[name]), name))
    return [f"{PATTERNS[name].title} ({counts[name]})" for name in ranked[:_REASONS]]


def _why_not(scan: Scan, key: str, choice: Choice) -> str:
    network = ipaddress.ip_network(key)
    for name, what in (
        ("is_loopback", "loopback"),
        ("is_link_local", "of the local link"),
        ("is_multicast", "multicast"),
        ("is_unspecified", "no host's address"),
    ):
        if getattr(network.network_address, name):
            return what
    for one, what in choice.never_block:
        if one.version == network.version and one.overlaps(network):
            return what
    if key in scan.disputed:
        return "named in forged log lines: look at its own requests before blocking it"
    return ""


def _totals(scan: Scan, sources: Sequence[str]) -> list[dict[str, Any]]:
    """Counts are exact, but for what follows from numbers of one address; so are addresses as long
    as nobody was forgotten."""
    counts = sum((scan.found[kind] for kind in sources), Counter[str]())
    addresses: Counter[str] = Counter()
    for key in {key for kind in sources for key in scan.suspects[kind].records}:
        found = findings(_parts(scan, key, sources))
        addresses.update(found.keys())
        for name in ("brute_force", "scanning"):
            counts[name] += found.get(name, 0)
    return [
        {
            "pattern": name,
            "title": PATTERNS[name].title,
            "count": counts[name],
            "addresses": addresses[name],
        }
        for name in PATTERNS
        if counts[name]
    ]


def _failed_logins(scan: Scan) -> dict[str, int]:
    unattributed = sum(scan.postgres_unattributed.values())
    return {
        "nginx": scan.found[NGINX]["failed_login"],
        "api": scan.found[API]["failed_login"],
        "api_messages": scan.api_failed_login_lines,
        "postgres": sum(scan.found[POSTGRES].values()) + unattributed,
        "postgres_without_address": unattributed,
    }


def _remarks(scan: Scan, web: str) -> list[str]:
    remarks = []
    clients = scan.clients[web]
    if not scan.access_lines[web]:
        remarks.append("no access log was among what was read: requests cannot be told")
    if clients.error:
        remarks.append(
            f"more clients than can be kept: an address may have {clients.error} requests more "
            "than is told, and one with fewer than those may be missing"
        )
    suspects_error = max(scan.suspects[kind].error for kind in (web, POSTGRES, REDIS))
    if suspects_error:
        remarks.append(
            "more suspects than can be kept: what was found of an address may have "
            f"{suspects_error} occurrences more than is told, and one with fewer may be missing"
        )
    for kind, count in sorted(scan.not_understood.items()):
        remarks.append(f"{plural(count, 'line')} of {kind} {_is(count)} of no known format")
    if scan.not_believed:
        remarks.append(
            f"{plural(scan.not_believed, 'line')} may be forged by line breaks and "
            f"{_is(scan.not_believed)} not counted"
        )
    if scan.without_stamp:
        remarks.append(
            "some lines lack the engine's timestamp: first and last seen may be incomplete"
        )
    unattributed = sum(scan.postgres_unattributed.values())
    if unattributed:
        remarks.append(
            f"{plural(unattributed, 'failed login')} in PostgreSQL without an address: set "
            "log_connections=on, or a log_line_prefix with %h"
        )
    return remarks


def _block_remarks(
    spared: Mapping[str, str], blockable: Sequence[str], choice: Choice
) -> list[str]:
    remarks = [
        f"{key} reaches the score and is not to be blocked: {why}"
        for key, why in list(spared.items())[:_SPARED_SHOWN]
    ]
    if len(spared) > _SPARED_SHOWN:
        remarks.append(f"{len(spared)} that reach the score are not to be blocked")
    if len(blockable) > choice.top:
        remarks.append(
            f"{len(blockable)} addresses could be blocked, the first {choice.top} are told"
        )
    return remarks


def _is(count: int) -> str:
    return "is" if count == 1 else "are"


def _moment(stamp: bytes) -> Optional[str]:
    return f"{stamp.decode('ascii', 'replace')}Z" if stamp else None


def _mix(statuses: Mapping[str, int]) -> str:
    return " ".join(f"{code}:{count}" for code, count in statuses.items() if code.endswith("xx"))


def tables(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    """For the report: what was found in all, who did it, and who asked most."""
    logins = answer["failed_logins"]
    overview: list[list[Any]] = [
        ["lines", answer["lines"]],
        ["size", format_bytes(answer["bytes"])],
        ["from", answer["first_seen"]],
        ["to", answer["last_seen"]],
        [f"requests ({answer['source']})", answer["requests"]],
        *([f"answers {code}", count] for code, count in answer["statuses"].items()),
        ["clients", ("at least " if answer["clients"]["is_lower_bound"] else "")
         + str(answer["clients"]["count"])],
        *([one["title"], f"{one['count']} from {one['addresses']}"] for one in answer["patterns"]),
        ["failed logins, messages of the API", logins["api_messages"]],
        ["failed logins in PostgreSQL", logins["postgres"]],
        ["to block", answer["block"] or "nobody"],
        *(["remark", remark] for remark in answer["remarks"]),
    ]  # fmt: skip
    return [
        {"title": "Logs", "columns": ["What", "Seen"], "rows": overview},
        {
            "title": "Offenders",
            "columns": [
                *("Address", "Score", "Requests", "Statuses", "First", "Last", "Why", "Block"),
            ],
            "rows": [
                [
                    one["address"], one["score"], one["requests"], _mix(one["statuses"]),
                    one["first_seen"], one["last_seen"], "; ".join(one["reasons"]),
                    "yes" if one["block"] else one["why_not"] or "below the score",
                ]
                for one in answer["offenders"]
            ],
        },
        {
            "title": "Examples",
            "columns": ["Address", "Pattern", "Line"],
            "rows": [
                [one["address"], example["pattern"], example["text"]]
                for one in answer["offenders"]
                for example in one["examples"][:3]
            ],
        },
        {
            "title": "Busiest clients",
            "columns": ["Address", "Requests", "Statuses", "Bytes", "First", "Last"],
            "rows": [
                [
                    one["address"], one["requests"], _mix(one["statuses"]), one["bytes"],
                    one["first_seen"], one["last_seen"],
                ]
                for one in answer["busiest"]
            ],
        },
    ]  # fmt: skip
