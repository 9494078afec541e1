# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What blocked addresses have to do with the engine and with a project's nginx: what must not be
blocked on their account, and the same blocks inside nginx, for clients behind a load balancer, of
whom no packet carries the address."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

from ansible_collections.pynomaly.ops.plugins.module_utils._blocklist import (
    Block,
    BlocklistError,
    Network,
    Protected,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._context import CheckSettings, Stack
from ansible_collections.pynomaly.ops.plugins.module_utils._edges import nginx_blocklist
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.compose import discover
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.docker import EngineError
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.engine_control import (
    EngineControl,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.nginx_control import (
    NginxError,
    read_configuration,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.own_network import (
    past_the_filter,
    protected_by_docker,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._nginx_blocklist import (
    NginxBlocklistError,
    address_source,
    trusted_proxies,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._scheduler import CollectorError


@dataclass
class StackSide:
    """What the engine and the project's nginx have to say; nothing of it where there is neither.

    ``protected`` must not be blocked. ``is_behind_proxies`` tells whether nginx has its clients'
    addresses from a load balancer's header.
    """

    engine: Optional[EngineControl] = None
    stack: Optional[Stack] = None
    protected: list[Protected] = field(default_factory=list)
    is_behind_proxies: bool = False
    remarks: list[str] = field(default_factory=list)

    def apply(
        self, blocks: Sequence[Block], now: datetime.datetime, *, dry_run: bool = False
    ) -> Mapping[str, Any]:
        """Have nginx block what is confirmed, where it is behind proxies; elsewhere the host's
        packet filter sees every client's own address. Raises L{BlocklistError}."""
        if self.engine is None or self.stack is None or not self.stack.containers:
            return {"changed": False}
        sure = [one for one in blocks if one.is_confirmed] if self.is_behind_proxies else []
        try:
            answer = nginx_blocklist.apply(self.engine, self.stack, sure, now, dry_run=dry_run)
        except (NginxBlocklistError, EngineError, OSError) as error:
            raise BlocklistError(
                f"what: nginx does not block what the host's packet filter does; seen: {error}; "
                "expected: both, since nginx is behind a load balancer",
                str(getattr(error, "hint", "")) or "ansible-playbook pynomaly.ops.resume",
            ) from error
        if sure and answer["skipped"]:
            self.remarks.append(
                f"nginx blocks nobody behind its load balancer: {answer['skipped']}"
            )
        self.remarks += answer["remarks"] if sure else []
        return answer

    def blocked(self, now: datetime.datetime) -> list[Network]:
        """What nginx keeps out."""
        if self.engine is None or self.stack is None or not self.stack.containers:
            return []
        try:
            answer = nginx_blocklist.status(self.engine, self.stack, now)
        except (NginxBlocklistError, EngineError, OSError) as error:
            self.remarks.append(f"nginx cannot be asked what it blocks: {error}")
            return []
        listed = answer["blocks"] if answer["in_force"] else []
        return [ipaddress.ip_network(one["network"]) for one in listed]


def look(
    project: str,
    service_names: Mapping[str, str],
    call_timeout_seconds: float,
) -> StackSide:
    """What there is of an engine and of the project. That one of them does not answer is remarked
    on and keeps nobody from blocking: the bridges' addresses are the host's own, which are looked
    at apart."""
    side = StackSide()
    try:
        side.engine = EngineControl(call_timeout_seconds)
        networks = side.engine.networks()
        side.protected += protected_by_docker(networks)
        side.remarks += [
            f"containers in the network {name} are on the wire themselves: the host's packet "
            "filter does not see what they get, and blocks nothing there"
            for name in past_the_filter(networks)
        ]
        settings = CheckSettings(call_timeout_seconds=call_timeout_seconds)
        side.stack = discover(side.engine, project, settings, service_names)
    except CollectorError as error:
        side.remarks.append(f"Docker's networks and nginx were not looked at: {error}")
        return side
    for container in side.stack.running("nginx"):
        try:
            dump = read_configuration(side.engine, container, call_timeout_seconds)
        except (NginxError, EngineError) as error:
            side.remarks.append(f"{container.name}: its trusted proxies are not known: {error}")
            continue
        side.protected += [
            Protected(network, "a load balancer that nginx trusts")
            for network in trusted_proxies(dump)
        ]
        side.is_behind_proxies = side.is_behind_proxies or bool(address_source(dump).proxies)
    return side
