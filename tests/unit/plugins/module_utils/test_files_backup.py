# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._backup_space import (
    expected_bytes,
    space_problem,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._compose import ComposeFiles
from ansible_collections.pynomaly.ops.plugins.module_utils._context import Container, Mount
from ansible_collections.pynomaly.ops.plugins.module_utils._files_backup import (
    MAX_LISTED_MEMBERS,
    MAX_LISTED_REMARKS,
    Members,
    Remarks,
    SaveState,
    config_sources,
    container_member_name,
    host_path,
    key_count,
    member_differences,
    member_name,
    rdb_problem,
    save_outcome,
    save_state,
)

FOLDER = "/opt/shop"


def sources(**changes: Any) -> tuple[dict[str, str], dict[str, str]]:
    """Paths with why they are taken, and those left out with the reason."""
    known: dict[str, Any] = {
        "files": ComposeFiles(FOLDER, [f"{FOLDER}/compose.yaml"]),
        "resolved": None,
        "raw": None,
        "containers": [],
        "names": [],
        "extra": [],
    }
    found, remarks = config_sources(**{**known, **changes})
    assert remarks.count == len(remarks.listed)
    return (
        {one.path: one.why for one in found},
        {one["path"]: one["reason"] for one in remarks.listed},
    )


def bind(source: str, target: str, read_only: bool = False) -> dict[str, Any]:
    return {"type": "bind", "source": source, "target": target, "read_only": read_only}


def test_compose_files_variables_and_what_lies_beside_them() -> None:
    found, _left = sources(
        names=["compose.yaml", "base.yml", ".env", ".env.local", "api.env", "config", "notes.txt"]
    )
    assert found == {
        f"{FOLDER}/compose.yaml": "Compose file",
        f"{FOLDER}/.env": "variables of the Compose file",
        f"{FOLDER}/.env.local": "in the project's folder",
        f"{FOLDER}/api.env": "in the project's folder",
        f"{FOLDER}/base.yml": "in the project's folder",
        f"{FOLDER}/config": "the project's configuration",
    }


def test_named_environment_files_are_not_optional() -> None:
    found, _remarks = config_sources(
        files=ComposeFiles(FOLDER, ["/etc/shop.yml"], ["/etc/shop.env"]),
        resolved=None,
        raw=None,
        containers=[],
        names=[],
        extra=["/etc/hosts.shop"],
    )
    assert [(one.path, one.optional) for one in found] == [
        ("/etc/shop.yml", False),
        ("/etc/shop.env", False),
        ("/etc/hosts.shop", False),
    ]


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("a.env", {f"{FOLDER}/a.env"}),
        (["a.env", "/etc/b.env"], {f"{FOLDER}/a.env", "/etc/b.env"}),
        ([{"path": "a.env", "required": False}], {f"{FOLDER}/a.env"}),
        (None, set()),
    ],
)
def test_env_file_in_each_of_its_forms(entry: Any, expected: set[str]) -> None:
    found, _left = sources(raw={"services": {"api": {"env_file": entry}}})
    assert {path for path, why in found.items() if why == "env_file of api"} == expected


def test_a_path_with_a_variable_is_named_as_left_out() -> None:
    _found, left = sources(raw={"services": {"api": {"env_file": "${WHERE}/a.env"}}})
    assert left == {"${WHERE}/a.env": "env_file of api, but a variable names it"}


def test_files_of_configs_and_secrets_wherever_they_are() -> None:
    found, _left = sources(
        resolved={
            "configs": {"c": {"file": "/srv/c.conf"}, "d": {"content": "x"}},
            "secrets": {"s": {"file": f"{FOLDER}/s.txt"}, "e": {"environment": "X"}},
        }
    )
    assert found["/srv/c.conf"] == "config c"
    assert found[f"{FOLDER}/s.txt"] == "secret s"
    assert len(found) == 4


def test_bind_mounts_below_the_folder_but_for_data() -> None:
    container = Container(
        "1",
        "shop-web-1",
        "web",
        1,
        "running",
        "nginx",
        "sha256:0",
        mounts=[
            Mount("bind", f"{FOLDER}/nginx", "/etc/nginx", True),
            Mount("volume", "/var/lib/docker/volumes/x/_data", "/x"),
            Mount("bind", "/var/run/docker.sock", "/var/run/docker.sock"),
        ],
    )
    found, left = sources(
        containers=[container],
        resolved={
            "services": {
                "db": {
                    "volumes": [
                        bind(f"{FOLDER}/pgdata", "/var/lib/postgresql/data"),
                        bind(f"{FOLDER}/init", "/docker-entrypoint-initdb.d"),
                        {"type": "volume", "source": "data", "target": "/x"},
                    ],
                    "build": {"context": f"{FOLDER}/src"},
                },
                "web": {"volumes": [bind(f"{FOLDER}/seed", "/data", read_only=True)]},
            }
        },
    )
    assert found[f"{FOLDER}/nginx"] == "/etc/nginx of web"
    assert f"{FOLDER}/init" in found
    assert f"{FOLDER}/seed" in found, "what a service cannot write to is no data of it"
    assert left == {
        f"{FOLDER}/pgdata": "/var/lib/postgresql/data of db: a service's data",
        "/var/run/docker.sock": "/var/run/docker.sock of web: outside of the project's folder",
        f"{FOLDER}/src": "what db is built from",
    }


def test_what_one_service_reads_and_another_writes_as_data_is_data() -> None:
    _found, left = sources(
        resolved={
            "services": {
                "web": {"volumes": [bind(f"{FOLDER}/x", "/static", read_only=True)]},
                "db": {"volumes": [bind(f"{FOLDER}/x", "/var/lib/data")]},
            }
        }
    )
    assert left == {f"{FOLDER}/x": "/var/lib/data of db: a service's data"}


def test_what_the_user_names_is_taken_in_spite_of_a_rule() -> None:
    resolved = {"services": {"db": {"volumes": [bind("/srv/tls", "/etc/tls")]}}}
    found, left = sources(resolved=resolved, extra=["/srv/tls"])
    assert (found["/srv/tls"], left) == ("named by the user", {})


@pytest.mark.parametrize(
    ("path", "member"),
    [
        (f"{FOLDER}/.env", "project/.env"),
        ("/etc/shop.env", "host/etc/shop.env"),
        ("/opt/shopping/x", "host/opt/shopping/x"),
    ],
)
def test_member_names_lead_back(path: str, member: str) -> None:
    assert member_name(path, FOLDER) == member
    assert host_path(member, FOLDER) == path


@pytest.mark.parametrize(
    "member", ["project/../../etc/x", "host/..", "etc/x", "project/", "/project/x", "project"]
)
def test_members_of_no_configuration_are_refused(member: str) -> None:
    with pytest.raises(ValueError, match="no member of a configuration"):
        host_path(member, FOLDER)


def test_container_member_name() -> None:
    assert container_member_name("/app/models", "models/a/b") == "app/models/a/b"
    assert container_member_name("/app/models", "models/") == "app/models"
    assert container_member_name("/app/models", "models") == "app/models"


def test_members_are_listed_until_they_are_too_many() -> None:
    few, many = Members(), Members()
    for number in range(MAX_LISTED_MEMBERS):
        few.add(f"m{number}", number, "0" * 64)
        many.add(f"m{number}", number, "0" * 64)
    many.add("one more", 1, "1" * 64)
    assert len(few.content()["listed"]) == few.content()["count"] == MAX_LISTED_MEMBERS
    content = many.content()
    assert (content["count"], content["listed"]) == (MAX_LISTED_MEMBERS + 1, [])
    assert content["sha256"] != few.content()["sha256"]


def test_remarks_are_bounded() -> None:
    remarks = Remarks()
    for number in range(MAX_LISTED_REMARKS + 5):
        remarks.add(f"p{number}", "why")
    assert (remarks.count, len(remarks.listed)) == (MAX_LISTED_REMARKS + 5, MAX_LISTED_REMARKS)


def members(**contents: str) -> dict[str, Any]:
    made = Members()
    for path, digest in contents.items():
        made.add(path, 3, digest * 64)
    return made.content()


def test_member_differences_names_what_differs() -> None:
    expected = members(a="1", b="2")
    assert member_differences(expected, members(a="1", b="2")) == []
    assert member_differences(expected, members(a="1", b="3")) == [
        "b differs from its SHA-256 in the manifest"
    ]
    assert member_differences(expected, members(a="1", c="2")) == [
        "b is missing",
        "c is one too many",
    ]
    assert member_differences(expected, members(b="2", a="1"))[0].startswith("members: sha256")
    unlisted = {**expected, "listed": []}
    assert member_differences(unlisted, members(a="1", b="3"))[0].startswith("members: sha256 is")
    assert member_differences(unlisted, members(a="1"))[0] == "members: count is 1, expected 2"


def test_space() -> None:
    assert space_problem(100, 1000, 900, "/b") == ""
    assert space_problem(0, 10, 0, "/b") == ""
    problem = space_problem(2 * 1024**3, 1024**3, 1024**2, "/backups")
    assert problem == (
        "too little space below /backups: seen 1.0 GiB free, expected 2.0 GiB for the backup "
        "and 1.0 MiB to spare"
    )


@pytest.mark.parametrize(
    ("source", "last", "expected"),
    [(None, None, 0), (100, None, 100), (None, 100, 120), (1000, 100, 120), (50, 100, 50)],
)
def test_expected_bytes(source: int | None, last: int | None, expected: int) -> None:
    assert expected_bytes(source, last) == expected


@pytest.mark.parametrize("head", [b"", b"REDIS", b"REDISabcd", b"<html>", b"\0" * 9])
def test_what_is_no_snapshot(head: bytes) -> None:
    assert "expected REDIS and a version" in rdb_problem(head)
    assert rdb_problem(b"REDIS0011\xfa") == ""


@pytest.mark.parametrize(
    ("now", "outcome"),
    [
        (SaveState(100, True, True), None),
        (SaveState(100, True, False), None),
        (SaveState(101, False, True), ""),
        (SaveState(100, False, True), None),
        (SaveState(100, False, False), "BGSAVE failed: rdb_last_bgsave_status is err, expected ok"),
    ],
)
def test_save_outcome(now: SaveState, outcome: str | None) -> None:
    assert save_outcome(SaveState(100, False, True), now) == outcome


def test_save_state_of_info() -> None:
    info = {
        "rdb_last_save_time": "7",
        "rdb_bgsave_in_progress": "1",
        "rdb_last_bgsave_status": "err",
    }
    assert save_state(info) == SaveState(7, True, False)
    with pytest.raises(ValueError, match="has no rdb_last_save_time"):
        save_state({})


def test_key_count() -> None:
    info = {"db0": "keys=3,expires=0,avg_ttl=0", "db11": "keys=4,expires=1", "dbx": "keys=9"}
    assert key_count(info) == 7
