# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Blocked addresses: what may be blocked, what is to be blocked until when, and how that is kept.

A block ends at a moment, not after a while, so that neither a restart nor a second application
prolongs it. One that is not confirmed yet ends much sooner, so that it undoes itself where it locks
its maker out.
"""

from __future__ import annotations

import datetime
import ipaddress
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Optional, Union

from ansible_collections.pynomaly.ops.plugins.module_utils._maintenance import (
    MaintenanceError,
    parse_duration,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._operation import describe_duration
from ansible_collections.pynomaly.ops.plugins.module_utils._report_text import plural
from ansible_collections.pynomaly.ops.plugins.module_utils._utc import parse_utc, utc_text

Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]

SCHEMA_VERSION = 1
#: Nothing wider than these is blocked.
WIDEST_PREFIX = {4: 16, 6: 32}
#: iptables' clock ends in 2038: https://man7.org/linux/man-pages/man8/iptables-extensions.8.html
MAX_DURATION_SECONDS = 366 * 86400
MAX_BLOCKS = 4096
MAX_REASON_CHARACTERS = 200
EVERYTHING = "all"

#: IPv4 addresses as a socket of both families tells them.
_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")
_RELEASE = "ansible-playbook pynomaly.ops.incident_release"


class BlocklistError(Exception):
    """Nothing was blocked or released, or not what was asked for. ``hint`` is what to run next."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True)
class Block:
    """One network that is kept out until C{until}.

    ``confirm_by`` is when it ends where nobody confirms it, C{None} for one that is confirmed;
    ``asked_from`` is the connection it was asked for over, as address and port. ``by`` is who.
    """

    network: Network
    until: datetime.datetime
    since: Optional[datetime.datetime] = None
    reason: str = ""
    incident: str = ""
    by: str = ""
    run_id: str = ""
    confirm_by: Optional[datetime.datetime] = None
    asked_from: str = ""

    @property
    def end(self) -> datetime.datetime:
        """When it ends as things stand."""
        return self.until if self.confirm_by is None else min(self.until, self.confirm_by)

    def is_past(self, now: datetime.datetime) -> bool:
        return self.end <= now

    @property
    def is_confirmed(self) -> bool:
        return self.confirm_by is None


@dataclass(frozen=True)
class Wanted:
    """All that is to be blocked, and what keeps it (C{nftables} or C{iptables}, empty where nothing
    was applied yet)."""

    blocks: Sequence[Block] = ()
    backend: str = ""


@dataclass(frozen=True)
class Protected:
    """A network of which no address is blocked, and what it is."""

    network: Network
    what: str


# What is asked for


def parse_network(text: str) -> Network:
    """An address or a network. IPv4 in IPv6's clothes is IPv4, as it comes over the wire.

    Raises L{BlocklistError}.
    """
    cleaned = text.strip()
    try:
        network = ipaddress.ip_network(cleaned)
    except ValueError as error:
        try:
            meant = ipaddress.ip_network(cleaned, strict=False)
        except ValueError:
            raise BlocklistError(f"{text!r} is not an address and not a network") from error
        raise BlocklistError(f"{cleaned} is not a network, expected {meant}") from error
    if "%" in cleaned:
        raise BlocklistError(f"{cleaned} names an interface, expected a plain address")
    if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(_MAPPED):
        return ipaddress.IPv4Network(
            (int(network.network_address) & 0xFFFFFFFF, network.prefixlen - 96)
        )
    return network


def network_text(network: Network) -> str:
    """A single address without its length."""
    single = network.prefixlen == network.max_prefixlen
    return str(network.network_address) if single else str(network)


def checked_networks(
    texts: Iterable[str], protected: Sequence[Protected], present: int = 0
) -> list[Network]:
    """What may be blocked of what is asked for. Raises L{BlocklistError} with everything that is
    wrong at once."""
    wanted = [text for text in texts if text.strip()]
    problems = [] if wanted else ["nothing to block is named"]
    networks: list[Network] = []
    for text in wanted:
        try:
            network = parse_network(text)
        except BlocklistError as error:
            problems.append(str(error))
            continue
        found = _objections(network, protected)
        problems += [f"{network_text(network)} {objection}" for objection in found]
        networks.append(network)
    networks = list(dict.fromkeys(networks))
    if len(networks) + present > MAX_BLOCKS:
        problems.append(f"there would be {len(networks) + present} blocks of {MAX_BLOCKS} at most")
    if problems:
        raise BlocklistError(
            f"what: nothing was blocked; seen: {'; '.join(dict.fromkeys(problems))}; expected: "
            f"addresses of others, in networks no wider than /{WIDEST_PREFIX[4]} (IPv4) and "
            f"/{WIDEST_PREFIX[6]} (IPv6)",
            "name the attacker's addresses alone: -e block=203.0.113.7,2001:db8::/48",
        )
    return networks


def _objections(network: Network, protected: Sequence[Protected]) -> list[str]:
    if network.prefixlen < WIDEST_PREFIX[network.version]:
        return [f"is wider than a /{WIDEST_PREFIX[network.version]}"]
    # Of a network that reaches into one of these, the first or the last address is in it.
    ends = (network.network_address, network.broadcast_address)
    kinds = (
        ("is_loopback", "is loopback"),
        ("is_unspecified", "is no host's address"),
        ("is_multicast", "is multicast"),
        ("is_link_local", "is of the local link, where the routers are"),
        ("is_reserved", "is reserved, no host has it"),
    )
    special = [what for name, what in kinds if any(getattr(end, name) for end in ends)]
    if special:
        return special[:1]
    clashes: dict[str, list[str]] = {}
    for one in protected:
        if one.network.version == network.version and one.network.overlaps(network):
            clashes.setdefault(network_text(one.network), []).append(one.what)
    return [
        f"is {' and '.join(dict.fromkeys(whats))}"
        if text == network_text(network)
        else f"has to do with {text}, {' and '.join(dict.fromkeys(whats))}"
        for text, whats in clashes.items()
    ]


def end_time(duration: str, until: str, now: datetime.datetime) -> datetime.datetime:
    """When a block ends, to the second: at ``until`` (ISO 8601) where that is given, else after
    ``duration`` (C{24h}). Raises L{BlocklistError}."""
    if until:
        try:
            end = parse_utc(until)
        except ValueError as error:
            raise BlocklistError(
                f"until: seen {until!r}, expected a time such as 2026-01-31T22:00:00Z"
            ) from error
    else:
        try:
            end = now + datetime.timedelta(seconds=parse_duration(duration))
        except (MaintenanceError, OverflowError) as error:
            raise BlocklistError(str(error)) from error
    end = end.replace(microsecond=0)
    if end <= now:
        raise BlocklistError(f"the end would be {utc_text(end)}, expected one that is to come")
    if (end - now).total_seconds() > MAX_DURATION_SECONDS:
        days = MAX_DURATION_SECONDS // 86400
        raise BlocklistError(f"the end would be {utc_text(end)}, expected {days} days at most")
    return end


def checked_reason(text: str) -> str:
    """The reason on one line. Raises L{BlocklistError} for what cannot be printed."""
    reason = " ".join(text.split())
    if len(reason) > MAX_REASON_CHARACTERS or (reason and not reason.isprintable()):
        raise BlocklistError(
            f"reason: seen {len(reason)} characters, expected {MAX_REASON_CHARACTERS} at most, "
            "that can be printed"
        )
    return reason


# What becomes of the list


@dataclass(frozen=True)
class Change:
    """``blocks`` are all afterwards; the others name what was done to which."""

    blocks: Sequence[Block]
    added: Sequence[Block] = ()
    moved: Sequence[Block] = ()
    removed: Sequence[Block] = ()
    remarks: Sequence[str] = ()

    @property
    def changed(self) -> bool:
        return bool(self.added or self.moved or self.removed)


def in_force(blocks: Iterable[Block], now: datetime.datetime) -> list[Block]:
    """Without those whose end is past."""
    return [block for block in blocks if not block.is_past(now)]


def tolerance_seconds(duration_seconds: float) -> float:
    """By how much the end may be asked for anew without being moved: a duration counts from when it
    is said, and saying it twice is not meant to change anything. Five minutes, or a hundredth of a
    long duration; never more than half of it."""
    return min(max(300.0, duration_seconds / 100), duration_seconds / 2)


def blocked(
    blocks: Sequence[Block],
    networks: Sequence[Network],
    template: Block,
    now: datetime.datetime,
    *,
    is_exact: bool,
) -> Change:
    """The list with these networks until the template's end.

    What is new awaits its confirmation as the template says; a confirmed block whose end is moved
    stays confirmed. With ``is_exact`` an end that differs by less than the tolerance is moved too.
    """
    kept = {block.network: block for block in in_force(blocks, now)}
    added, moved = [], []
    allowed = 0.0 if is_exact else tolerance_seconds((template.until - now).total_seconds())
    for network in networks:
        new = replace(template, network=network, since=now)
        old = kept.get(network)
        if old is None or not old.is_confirmed:
            kept[network] = new
            added.append(new)
        elif abs((old.until - template.until).total_seconds()) > allowed:
            kept[network] = replace(
                new, since=old.since, confirm_by=None, incident=new.incident or old.incident
            )
            moved.append(kept[network])
    return Change(_ordered(kept.values()), added, moved)


def confirmed(blocks: Sequence[Block], networks: Sequence[Network]) -> Change:
    """The list with these networks confirmed. Raises L{BlocklistError} where one is not there any
    more: it has undone itself, and the connection that asks proves nothing."""
    known = {block.network: block for block in blocks}
    gone = [network_text(network) for network in networks if network not in known]
    if gone:
        raise BlocklistError(
            f"what: the block was not confirmed in time; seen: {', '.join(gone)} not blocked any "
            "more, since it has undone itself; expected: a connection while it is in force",
            "if the connection was slow, once more with more time: -e incident_confirm_seconds=120;"
            " if it was cut, the block hits its maker: narrow it",
        )
    wanted = set(networks)
    moved = [
        replace(block, confirm_by=None)
        for block in blocks
        if block.network in wanted and not block.is_confirmed
    ]
    known.update({block.network: block for block in moved})
    return Change(_ordered(known.values()), moved=moved)


def released(
    blocks: Sequence[Block],
    networks: Sequence[Network],
    *,
    incident: str = "",
    everything: bool = False,
) -> Change:
    """The list without what lies in these networks, or is of this incident.

    An address that is still blocked afterwards, in a wider network, is remarked on.
    """

    def goes(block: Block) -> bool:
        return (
            everything
            or (bool(incident) and not networks and block.incident == incident)
            or any(_within(block.network, network) for network in networks)
        )

    removed = [block for block in blocks if goes(block)]
    kept = [block for block in blocks if not goes(block)]
    remarks = [
        f"{network_text(network)} is still blocked, in {block.network} until "
        f"{_moment(block.until)}: {_RELEASE} -e block={block.network}"
        for network in networks
        for block in kept
        if _within(network, block.network)
    ]
    return Change(_ordered(kept), removed=removed, remarks=remarks)


def without_past(blocks: Sequence[Block], now: datetime.datetime) -> Change:
    """The list without what has ended."""
    return Change(
        _ordered(in_force(blocks, now)), removed=[block for block in blocks if block.is_past(now)]
    )


def _within(inner: Network, outer: Network) -> bool:
    return inner.version == outer.version and inner.subnet_of(outer)  # type: ignore[arg-type]


def _ordered(blocks: Iterable[Block]) -> list[Block]:
    return sorted(blocks, key=lambda one: (one.network.version, one.network))


# What the kernel is told


@dataclass(frozen=True)
class Element:
    """A network as the kernel has it: none of them has anything in common with another."""

    network: Network
    end: datetime.datetime


def elements(blocks: Iterable[Block], now: datetime.datetime) -> list[Element]:
    """What the blocks in force come to, without overlaps, which a set of intervals refuses: each
    address until the latest end that is said of it."""
    taken: dict[Network, Element] = {}
    latest_first = sorted(in_force(blocks, now), key=lambda block: block.end, reverse=True)
    for block in latest_first:
        if any(one in taken for one in _around(block.network)):
            continue
        pieces = [block.network]
        if block.network.prefixlen < block.network.max_prefixlen:
            for other in [one for one in taken if _within(one, block.network)]:
                pieces = [rest for piece in pieces for rest in _cut(piece, other)]
        taken.update({piece: Element(piece, block.end) for piece in pieces})
    return sorted(taken.values(), key=lambda one: (one.network.version, one.network))


def _around(network: Network) -> Iterable[Network]:
    """The network and all that contain it, as far as any may be blocked."""
    for length in range(network.prefixlen, WIDEST_PREFIX[network.version] - 1, -1):
        yield network.supernet(new_prefix=length)


def _cut(piece: Network, other: Network) -> list[Network]:
    return list(piece.address_exclude(other)) if _within(other, piece) else [piece]  # type: ignore[arg-type]


# How it is kept


def encode(wanted: Wanted) -> str:
    document = {
        "schema_version": SCHEMA_VERSION,
        "backend": wanted.backend,
        "blocks": [block_fields(block) for block in wanted.blocks],
    }
    return json.dumps(document, indent=2) + "\n"


def decode(text: str) -> Wanted:
    """Raises L{BlocklistError} for what L{encode} has not written."""
    try:
        document = json.loads(text)
        if document["schema_version"] != SCHEMA_VERSION:
            raise BlocklistError(f"schema version {document['schema_version']}, expected 1")
        blocks = [_block(fields) for fields in document["blocks"]]
        return Wanted(blocks, str(document["backend"]))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BlocklistError(f"it is not what was written: {error!r}") from error


def block_fields(block: Block) -> dict[str, Any]:
    """A block as texts: what is kept of it, and what modules return."""
    fields = asdict(block)
    for name in ("until", "since", "confirm_by"):
        fields[name] = utc_text(fields[name]) if fields[name] is not None else None
    return {**fields, "network": network_text(block.network)}


def _block(fields: Mapping[str, Any]) -> Block:
    def text(name: str) -> str:
        return str(fields.get(name) or "")

    def moment(name: str) -> Optional[datetime.datetime]:
        return parse_utc(fields[name]) if fields.get(name) else None

    return Block(
        network=ipaddress.ip_network(fields["network"]),
        until=parse_utc(fields["until"]),
        since=moment("since"),
        reason=text("reason"),
        incident=text("incident"),
        by=text("by"),
        run_id=text("run_id"),
        confirm_by=moment("confirm_by"),
        asked_from=text("asked_from"),
    )


# What people read


@dataclass(frozen=True)
class InForce:
    """What the kernel keeps out: each element's network and when it ends there.

    ``is_whole`` tells whether the rules that use it are there; ``packets`` is how many were dropped
    since they were made, C{None} where nobody counts.
    """

    backend: str = ""
    ends: Mapping[Network, datetime.datetime] = field(default_factory=dict)
    is_whole: bool = False
    packets: Optional[int] = None

    def has(self, network: Network, now: datetime.datetime) -> bool:
        """Whether every address of a network is kept out. The kernel's pieces are disjoint, so that
        they are all of it where they come to its size."""
        if not self.is_whole:
            return False
        current = [one for one, end in self.ends.items() if end > now]
        if any(_within(network, one) for one in current):
            return True
        inside = [one for one in current if _within(one, network)]
        return sum(one.num_addresses for one in inside) == network.num_addresses


#: By how many seconds the kernel's end may differ: it tells whole seconds, and the clock drifts.
_DRIFT_SECONDS = 3.0


def agrees(seen: InForce, wanted: Sequence[Element], now: datetime.datetime) -> bool:
    """Whether the kernel keeps out just that. What ends about now may be there or not; what has
    ended long ago and is there still, as with iptables, is to be cleared away."""
    drift = datetime.timedelta(seconds=_DRIFT_SECONDS)
    if not wanted:
        return not seen.is_whole and not seen.ends
    if not seen.is_whole:
        return False
    ends = {one.network: one.end for one in wanted}
    for network in {*ends, *seen.ends}:
        left, right = ends.get(network), seen.ends.get(network)
        if left is not None and right is not None:
            if abs(left - right) > drift:
                return False
        elif abs((left or right or now) - now) > drift:
            return False
    return True


def rows(
    blocks: Sequence[Block], seen: InForce, by_nginx: Iterable[Network], now: datetime.datetime
) -> list[dict[str, Any]]:
    """The blocks in force as modules return them, with where each is."""
    nginx = set(by_nginx)
    found = []
    for block in in_force(blocks, now):
        in_kernel = seen.has(block.network, now)
        places = [seen.backend] if in_kernel else []
        places += ["nginx"] if block.network in nginx else []
        found.append(
            {
                **block_fields(block),
                "seconds_left": int((block.end - now).total_seconds()),
                "is_confirmed": block.is_confirmed,
                "in_kernel": in_kernel,
                "in_force": places,
            }
        )
    return found


def table(blocks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The rows as a table of a report."""
    columns = ["Network", "Until", "Left", "Reason", "Incident", "By", "In force"]
    return {
        "title": "Blocked addresses",
        "columns": columns,
        "rows": [
            [
                one["network"],
                _moment(parse_utc(one["until"])),
                describe_duration(one["seconds_left"])
                + ("" if one["is_confirmed"] else ", unless it is confirmed"),
                one["reason"],
                one["incident"],
                one["by"],
                ", ".join(one["in_force"]) or "nowhere",
            ]
            for one in blocks
        ],
    }


def list_lines(blocks: Sequence[Mapping[str, Any]]) -> list[str]:
    """The rows as lines on a terminal."""
    if not blocks:
        return ["no address is blocked"]
    lines = [f"{plural(len(blocks), 'network')} blocked:"]
    for cells in table(blocks)["rows"]:
        network, until, left, reason, incident, by, places = cells
        about = [text for text in (reason, f"incident {incident}" if incident else "", by) if text]
        lines.append(f"  {network} until {until} ({left}) by {places}; {', '.join(about)}")
    return lines


def change_lines(change: Change, *, check_mode: bool) -> list[str]:
    """What was done, or would be."""
    verbs = (
        ("would be blocked", "would end otherwise", "would be released")
        if check_mode
        else ("blocked", "ends otherwise", "released")
    )
    lines = [
        f"{verb}: {network_text(block.network)}"
        + (f" until {_moment(block.until)}" if verb != verbs[2] else "")
        for verb, blocks in zip(verbs, (change.added, change.moved, change.removed))
        for block in blocks
    ]
    return [*(lines or ["nothing to change"]), *change.remarks]


def lost_remarks(blocks: Sequence[Mapping[str, Any]]) -> list[str]:
    """What to say of blocks that are wanted and not there."""
    lost = [one["network"] for one in blocks if not one["in_kernel"]]
    if not lost:
        return []
    return [
        f"{', '.join(lost)}: to be blocked, but not in the kernel; "
        "next: ansible-playbook pynomaly.ops.resume"
    ]


def _moment(moment: datetime.datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
