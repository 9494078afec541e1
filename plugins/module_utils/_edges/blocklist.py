# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Addresses blocked and released: what is wanted is on disk before the kernel is told, so that
whoever comes later (the next run, the host's timer, the start of the host) brings the kernel to it.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Optional

from ansible_collections.pynomaly.ops.plugins.module_utils._blocklist import (
    EVERYTHING,
    Block,
    BlocklistError,
    Change,
    Element,
    InForce,
    Network,
    Protected,
    Wanted,
    agrees,
    blocked,
    change_lines,
    checked_networks,
    checked_reason,
    confirmed,
    decode,
    elements,
    encode,
    end_time,
    in_force,
    list_lines,
    lost_remarks,
    network_text,
    parse_network,
    released,
    rows,
    table,
    without_past,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.files import (
    ensure_directory,
    sync_directory,
    write_atomically,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.netfilter import (
    Cut,
    PacketFilter,
    cut,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.operation_store import (
    OperationStore,
    utc_now,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.own_network import (
    protected_by_host,
    protected_by_user,
    ssh_connection,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.temporary_states import (
    TemporaryStates,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._operation import (
    RunIdentity,
    describe_owner,
    open_temporary_states,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._utc import utc_text

STATE = "blocked_addresses"
FILE_NAME = "blocklist.json"
UNDO = "ansible-playbook pynomaly.ops.incident_release -e block=all"

_LOCK_NAME = "blocklist.lock"
_LOCK_SECONDS = 10.0
_POLL_SECONDS = 0.05

_NOTHING_CUT = Cut()

Step = Callable[[str], None]


def _no_step(_name: str) -> None:
    pass


class BlocklistStore:
    """The wanted blocks in the folder of the host's journal. Raises L{BlocklistError} and
    C{OSError}."""

    def __init__(self, directory: str) -> None:
        self.directory = Path(directory)
        self.path = self.directory / FILE_NAME

    def read(self) -> Wanted:
        try:
            return decode(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return Wanted()
        except (BlocklistError, UnicodeDecodeError) as error:
            raise BlocklistError(
                f"what: the list of blocked addresses cannot be used; seen in {self.path}: "
                f"{error}; expected: the list as it was written",
                f"look at it, and remove it where it is broken: cat {self.path}; then block what "
                "has to be blocked again",
            ) from error

    def write(self, wanted: Wanted) -> None:
        """So that it outlives a power cut."""
        write_atomically(self.path, encode(wanted), 0o600)

    def remove(self) -> None:
        """Once the kernel has let go of everything."""
        self.path.unlink(missing_ok=True)
        sync_directory(self.directory)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """One process at a time reads, decides and writes: the host's timer does so too, and it
        does not take the host's lock."""
        ensure_directory(self.directory, 0o700)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self.directory / _LOCK_NAME, flags, 0o600)
        try:
            deadline = time.monotonic() + _LOCK_SECONDS
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError as error:
                    if time.monotonic() >= deadline:
                        raise BlocklistError(
                            f"another process is at work on {self.path}, for {_LOCK_SECONDS:g} s",
                            f"see which: fuser -v {self.directory / _LOCK_NAME}",
                        ) from error
                    time.sleep(_POLL_SECONDS)
            yield
        finally:
            os.close(descriptor)


@dataclass(frozen=True)
class Request:
    """What is asked for.

    ``networks`` are texts. ``protected`` is what must not be blocked beside the host's own, which
    is looked up. ``confirm_seconds`` is how long a new block stays unless it is confirmed over
    another connection, 0 for one that needs no confirmation.
    """

    networks: Sequence[str]
    duration: str = "24h"
    until: str = ""
    reason: str = ""
    incident: str = ""
    allow: Sequence[str] = ()
    controller_addresses: Sequence[str] = ()
    protected: Sequence[Protected] = ()
    confirm_seconds: int = 30


@dataclass
class Blocklist:
    """The blocks of this host.

    ``states`` is the journal's, C{None} to leave it alone; with ``only_closes`` nothing is opened
    in it, for those who are no operation.
    """

    store: BlocklistStore
    states: Optional[TemporaryStates] = None
    identity: Optional[RunIdentity] = None
    dry_run: bool = False
    only_closes: bool = False
    step: Step = _no_step
    clock: Callable[[], datetime.datetime] = utc_now

    def block(self, request: Request) -> dict[str, Any]:
        """Keep networks out; what the module returns. Raises L{BlocklistError}, with nothing
        changed where anything that is asked for is refused."""
        now = self.clock()
        until = end_time(request.duration, request.until, now)
        reason = checked_reason(request.reason)
        if not 0 <= request.confirm_seconds <= 3600:
            raise BlocklistError(
                f"confirm_seconds: seen {request.confirm_seconds}, expected 0 to 3600"
            )
        connection = ssh_connection()
        with self._opened() as wanted:
            networks = checked_networks(
                request.networks, self._protected(request, connection), len(wanted.blocks)
            )
            now = self.clock()
            template = Block(
                network=networks[0],
                until=until,
                reason=reason,
                incident=request.incident,
                by=self._by,
                run_id=self.identity.run_id if self.identity else "",
                confirm_by=now + datetime.timedelta(seconds=request.confirm_seconds)
                if request.confirm_seconds
                else None,
                asked_from=" ".join(connection or ()),
            )
            change = blocked(wanted.blocks, networks, template, now, is_exact=bool(request.until))
            changed = self._apply(wanted, change, now)
        if self.dry_run:
            return self._answer(change, changed)
        awaits = [one for one in change.added if not one.is_confirmed]
        sure = [one.network for one in change.added if one.is_confirmed]
        return self._answer(change, changed, cut(sure) if sure else Cut(), awaits)

    def confirm(self, texts: Sequence[str]) -> dict[str, Any]:
        """Let the blocks stay that were asked for over another connection than this one, and close
        what is open with them. Raises L{BlocklistError} where they have undone themselves."""
        networks = [parse_network(text) for text in texts if text.strip()]
        connection = " ".join(ssh_connection() or ())
        if self.dry_run:
            return self._answer(Change(()), changed=False)
        with self._opened() as wanted:
            now = self.clock()
            seen = PacketFilter().read(now)
            current = in_force(wanted.blocks, now)
            # One that the kernel does not have lets everybody in, and proves nothing.
            change = confirmed([one for one in current if seen.has(one.network, now)], networks)
            same = [one for one in change.moved if connection and one.asked_from == connection]
            if same:
                raise BlocklistError(
                    f"what: {', '.join(network_text(one.network) for one in same)} cannot be "
                    f"confirmed; seen: the connection that it was asked for over, from "
                    f"{connection}; expected: a new one, which shows that the operator gets in",
                    "meta: reset_connection before it, or wait until the block undoes itself",
                )
            whole = {one.network: one for one in current}
            whole.update({one.network: one for one in change.moved})
            change = replace(change, blocks=list(whole.values()))
            changed = self._apply(wanted, change, now)
        moved = [one.network for one in change.moved]
        return self._answer(change, changed, cut(moved) if moved else Cut())

    def release(self, texts: Sequence[str], incident: str = "") -> dict[str, Any]:
        """Let networks in again: all that lies in these, or is of the incident, or C{all}."""
        everything = [text.strip() for text in texts] == [EVERYTHING]
        networks = [] if everything else [parse_network(text) for text in texts if text.strip()]
        if not (everything or networks or incident):
            raise BlocklistError(
                "what: nothing was released; seen: neither a network nor an incident; expected: "
                "one of them, or all",
                "ansible-playbook pynomaly.ops.incident_release -e block=203.0.113.7",
            )
        with self._opened() as wanted:
            change = released(wanted.blocks, networks, incident=incident, everything=everything)
            changed = self._apply(wanted, change, self.clock())
        return self._answer(change, changed)

    def reconcile(self) -> dict[str, Any]:
        """Bring the kernel to what is wanted, and forget what has ended."""
        with self._opened() as wanted:
            now = self.clock()
            change = without_past(wanted.blocks, now)
            changed = self._apply(wanted, change, now)
        return self._answer(change, changed)

    def note(self) -> None:
        """Have the journal say that what is blocked is so by the will of this run."""
        with self._opened() as wanted:
            if wanted.blocks:
                self._note(wanted.blocks)

    def show(self, by_nginx: Sequence[Network] = ()) -> dict[str, Any]:
        """What is blocked, until when, why, and where; changes nothing."""
        now = self.clock()
        wanted = self.store.read()
        remarks = []
        try:
            seen = PacketFilter().read(now)
        except BlocklistError as error:
            seen, remarks = InForce(), [f"{error}; next: {error.hint}"]
        listed = rows(wanted.blocks, seen, by_nginx, now)
        if not remarks:
            remarks = lost_remarks(listed)
            remarks += self._unknown(seen, wanted, now)
        return {
            "changed": False,
            "backend": seen.backend,
            "dropped_packets": seen.packets,
            "blocks": listed,
            "tables": [table(listed)],
            "lines": list_lines(listed),
            "remarks": remarks,
        }

    # Inside

    @staticmethod
    def _unknown(seen: InForce, wanted: Wanted, now: datetime.datetime) -> list[str]:
        """What the kernel keeps out and nobody wants: it was told by another hand."""
        known = {one.network for one in elements(wanted.blocks, now)}
        extra = [one for one, end in seen.ends.items() if end > now and one not in known]
        if not extra or not seen.is_whole:
            return []
        named = ", ".join(network_text(one) for one in extra[:5])
        return [
            f"{named}: kept out by the kernel, and not on the list; "
            "next: ansible-playbook pynomaly.ops.resume"
        ]

    @property
    def _by(self) -> str:
        who = self.identity
        return describe_owner(who.user, who.controller, who.awx_job_id) if who else ""

    @staticmethod
    def _protected(request: Request, connection: Optional[tuple[str, str]]) -> list[Protected]:
        client = protected_by_user([connection[0]] if connection else [], "the SSH client")
        return [
            *protected_by_host(),
            *client,
            *protected_by_user(request.controller_addresses, "the controller"),
            *protected_by_user(request.allow, "on the allow-list"),
            *request.protected,
        ]

    @contextlib.contextmanager
    def _opened(self) -> Iterator[Wanted]:
        if self.dry_run:
            yield self.store.read()
            return
        with self.store.locked():
            yield self.store.read()

    def _apply(self, wanted: Wanted, change: Change, now: datetime.datetime) -> bool:
        """The journal, the disk, the kernel, in this order; whether anything was to be done."""
        if not (change.blocks or wanted.blocks or self.store.path.exists()):
            return False
        packets = PacketFilter()
        target = elements(change.blocks, now)
        holds = wanted.backend in ("", packets.backend) and agrees(packets.read(now), target, now)
        needed = change.changed or not holds
        is_left = not change.blocks and self.store.path.exists()
        if self.dry_run or not (needed or is_left):
            return needed
        if change.blocks:
            self.step("journal")
            self._note(change.blocks)
        self.step("write")
        self.store.write(Wanted(change.blocks, packets.backend))
        if not holds:
            self.step("kernel")
            self._tell(packets, change.blocks, target, wanted)
        self.step("close")
        if not change.blocks:
            self._note(())
            self.store.remove()
        return needed

    def _tell(
        self,
        packets: PacketFilter,
        blocks: Sequence[Block],
        target: Sequence[Element],
        before: Wanted,
    ) -> None:
        try:
            packets.apply(target, self.clock(), before.backend)
        except BlocklistError:
            # What the kernel refuses is not wanted any more: nobody is to come back to it.
            self.store.write(before)
            self._note(before.blocks)
            raise
        self._prove(packets, blocks)

    def _prove(self, packets: PacketFilter, blocks: Sequence[Block]) -> None:
        now = self.clock()
        seen = packets.read(now)
        if not agrees(seen, elements(blocks, now), now):
            raise BlocklistError(
                f"what: the kernel does not keep out what it was told to; seen: "
                f"{len(seen.ends)} networks by {seen.backend}; expected: those of "
                f"{self.store.path}",
                "nft list ruleset; iptables -t raw -S",
            )

    def _note(self, blocks: Sequence[Block]) -> None:
        """What the journal says of the blocks, as one state that ends with the last of them."""
        if self.states is None:
            return
        if blocks and self.only_closes:
            return
        if blocks:
            end = max(block.until for block in blocks)
            details = {
                "until": utc_text(end),
                "networks": [network_text(block.network) for block in blocks][:500],
                # Opened by another run it is news, and that run answers for it.
                "run_id": self.states.identity.run_id,
            }
            count = len(blocks)
            summary = f"{count} network{'' if count == 1 else 's'} blocked until {utc_text(end)}"
            self.states.open(STATE, summary, details, UNDO)
            return
        _lock, journal = self.states.store.read()
        for record in open_temporary_states(journal.records):
            if record["temporary_state"] == STATE:
                replace(self.states, project=str(record["project"])).close(
                    STATE, "none is blocked any more"
                )

    def _answer(
        self,
        change: Change,
        changed: bool,
        done: Cut = _NOTHING_CUT,
        awaits: Sequence[Block] = (),
    ) -> dict[str, Any]:
        def texts(blocks: Sequence[Block]) -> list[str]:
            return [network_text(block.network) for block in blocks]

        lines = change_lines(change, check_mode=self.dry_run)
        if changed and not change.changed:
            lines = ["the kernel was brought to what is wanted"]
        if awaits:
            lines.append(
                f"until {utc_text(awaits[0].end)} only, unless a new connection confirms it"
            )
        if done.sockets is not None:
            lines.append(f"open connections closed: {done.sockets}")
        return {
            "changed": changed,
            "added": texts(change.added),
            "moved": texts(change.moved),
            "removed": texts(change.removed),
            "blocked": texts(change.blocks),
            "awaits_confirmation": texts(awaits),
            "confirm_by": utc_text(awaits[0].end) if awaits else None,
            "sockets_closed": done.sockets,
            "tracked_forgotten": done.tracked,
            "lines": lines,
            "remarks": list(change.remarks),
        }


def keep(state_dir: str, identity: RunIdentity) -> dict[str, Any]:
    """What the host does by itself, at its start and every minute: L{Blocklist.reconcile}. Raises
    L{BlocklistError}, C{StoreError} and C{OSError}."""
    store = BlocklistStore(state_dir)
    if not store.path.exists():
        return {"changed": False, "lines": []}
    states = TemporaryStates(OperationStore(state_dir), identity, "blocklist", "")
    return Blocklist(store, states, identity, only_closes=True).reconcile()
