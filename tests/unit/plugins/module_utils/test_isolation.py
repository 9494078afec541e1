# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._context import Container, Stack
from ansible_collections.pynomaly.ops.plugins.module_utils._isolation import (
    CONNECTED,
    GONE,
    ISOLATED,
    PARTLY,
    IsolatedContainer,
    IsolationError,
    chosen,
    endpoints_of,
    from_details,
    isolation_lines,
    refusal,
    remembered,
    standing,
    to_details,
)

ID = "f758c88edb24" + "0" * 52


def container(name: str = "shop-web-1", service: str = "web", number: int = 1) -> Container:
    return Container(ID, name, service, number, "running", "web:1", "sha256:1")


def inspection(networks: dict[str, Any] | None, mode: str = "shop_default") -> dict[str, Any]:
    return {
        "Id": ID,
        "HostConfig": {"NetworkMode": mode},
        "NetworkSettings": {"Networks": networks},
    }


def settings(**more: Any) -> dict[str, Any]:
    return {
        "IPAMConfig": None,
        "Links": None,
        "Aliases": ["web", ID[:12]],
        "DriverOpts": None,
        "NetworkID": "n1",
        "IPAddress": "172.20.0.2",
        "GlobalIPv6Address": "",
        **more,
    }


def isolated(*networks: str) -> IsolatedContainer:
    found = endpoints_of(inspection({name: settings() for name in networks}))
    return IsolatedContainer(ID, "shop-web-1", "web", "2026-11-24T00:00:00.000Z", tuple(found))


def test_endpoints_are_those_of_real_networks_without_the_engines_own_alias() -> None:
    found = endpoints_of(
        inspection(
            {
                "none": settings(),
                "front": settings(IPAMConfig={"IPv4Address": "10.1.0.9", "IPv6Address": "fd00::9"}),
                "back": settings(Links=["db:other"], DriverOpts={"a": "b"}),
            }
        )
    )
    assert [one.network for one in found] == ["back", "front"]
    assert [one.aliases for one in found] == [("web",), ("web",)]
    assert (found[1].configured_ipv4, found[1].configured_ipv6) == ("10.1.0.9", "fd00::9")
    assert found[0].links == ("db:other",) and found[0].driver_options == {"a": "b"}
    assert endpoints_of({"Id": ID, "NetworkSettings": None}) == []


def test_the_journal_gives_back_what_it_was_given() -> None:
    before = [isolated("back", "front")]
    details = json.loads(json.dumps(to_details(before)))
    assert details["open_ended"] is True
    after = from_details(details)
    assert [vars(one) | {"links": (), "aliases": ()} for one in after[0].endpoints] == [
        vars(one) | {"links": (), "aliases": ()} for one in before[0].endpoints
    ]
    assert list(after[0].endpoints[0].aliases) == ["web"]
    with pytest.raises(KeyError):
        from_details({})


def test_what_cannot_be_isolated_is_told_with_what_to_do_instead() -> None:
    assert refusal(container(), inspection({}, "shop_default")) == ""
    host = refusal(container(), inspection({}, "host"))
    assert "host's own network" in host and "docker pause shop-web-1" in host
    assert "container 0123456789ab" in refusal(
        container(), inspection({}, "container:0123456789abcdef")
    )


def test_a_service_a_component_or_a_container_can_be_named() -> None:
    two = [container(), container("shop-web-2", "web", 2)]
    stack = Stack("shop", containers={"web": two}, components={"api": "web"})
    assert chosen(stack, "web") == two
    assert chosen(stack, "api") == two
    assert chosen(stack, "shop-web-2") == [two[1]]
    with pytest.raises(IsolationError, match="expected one of: web"):
        chosen(stack, "wob")
    with pytest.raises(IsolationError, match="it has no containers"):
        chosen(Stack("shop"), "web")


def test_what_was_remembered_first_stays_and_new_networks_are_added() -> None:
    before = isolated("back", "front")
    now = endpoints_of(inspection({"front": settings(IPAddress="172.20.0.77"), "new": settings()}))
    both = remembered(before, now)
    assert both.networks == ["back", "front", "new"]
    assert both.endpoints[1].ipv4 == "172.20.0.2"
    assert both.since == before.since


@pytest.mark.parametrize(
    ("networks", "state"),
    [
        ({"none": settings()}, ISOLATED),
        ({}, PARTLY),
        ({"front": settings()}, PARTLY),
        ({"front": settings(), "back": settings()}, CONNECTED),
    ],
)
def test_where_a_container_is(networks: dict[str, Any], state: str) -> None:
    assert standing(isolated("back", "front"), inspection(networks)) == state
    assert standing(isolated("back", "front"), None) == GONE


def test_lines() -> None:
    entry = {"name": "shop-web-1", "service": "web", "state": ISOLATED, "networks": ["back"]}
    assert isolation_lines([entry], "shop") == [
        "shop-web-1 (web): isolated; belongs on back",
    ]
    connected = {**entry, "state": CONNECTED}
    assert isolation_lines([connected], "shop") == ["shop-web-1 (web): connected to back"]
    assert isolation_lines([], "shop") == ["no container of shop is isolated"]
