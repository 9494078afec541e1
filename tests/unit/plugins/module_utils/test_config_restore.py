# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._config_restore import (
    CREATE,
    REPLACE,
    SAME,
    SETTLED_SECONDS,
    FileChange,
    backup_files,
    member_path,
    not_up,
    option_value,
    shown,
    staged_path,
    touched_services,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._context import (
    ComposeService,
    Container,
    Mount,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._credentials import MASK

FOLDER = "/srv/shop"
ROOTS = ("/etc/shop.env", "/opt/tls")
SECRET = "hunter2hunter2"


def container(name: str = "shop-api-1", **changes: Any) -> Container:
    fields = {"id": name, "service": "api", "number": 1, "state": "running", "image": "i"}
    return Container(**{**fields, "name": name, "image_id": "sha256:1", **changes})


@pytest.mark.parametrize(("action", "change"), [(CREATE, True), (REPLACE, True), (SAME, False)])
def test_what_is_the_same_is_no_change(action: str, change: bool) -> None:
    assert FileChange("/a", "/s/a", action, 0o644, (0, 0)).is_change is change


# Where things belong


@pytest.mark.parametrize(
    ("path", "working_dir", "staged"),
    [
        (FOLDER, FOLDER, "/s/project"),
        (f"{FOLDER}/a/b.yml", FOLDER, "/s/project/a/b.yml"),
        (f"{FOLDER}/a/b.yml", f"{FOLDER}/", "/s/project/a/b.yml"),
        (f"{FOLDER}/../common/c.yml", FOLDER, "/s/host/srv/common/c.yml"),
        (f"{FOLDER}/../../../../etc/x", FOLDER, "/s/host/etc/x"),
        ("/srv/shopping/a", FOLDER, "/s/host/srv/shopping/a"),
        ("/etc/shop.env", FOLDER, "/s/host/etc/shop.env"),
        ("/etc/shop.env", "", "/s/host/etc/shop.env"),
    ],
)
def test_where_a_path_is_staged(path: str, working_dir: str, staged: str) -> None:
    assert staged_path(path, working_dir, "/s") == staged


@pytest.mark.parametrize(
    ("member", "path"),
    [
        ("project/.env", f"{FOLDER}/.env"),
        ("project/a/b", f"{FOLDER}/a/b"),
        ("host/etc/shop.env", "/etc/shop.env"),
        ("host/opt/tls", "/opt/tls"),
        ("host/opt/tls/a/key.pem", "/opt/tls/a/key.pem"),
    ],
)
def test_where_a_member_belongs(member: str, path: str) -> None:
    assert member_path(member, FOLDER, ROOTS) == path


@pytest.mark.parametrize(
    "member",
    [
        "host/etc/passwd",
        "host/etc/shop.env.d",
        "host/opt/tls2/key.pem",
        "host/opt",
        "host/opt/tls/../../etc/passwd",
        "host//etc/passwd",
        "project//etc/passwd",
        "project/../x",
        "etc/passwd",
        "/etc/passwd",
        "project",
    ],
)
@pytest.mark.parametrize("roots", [ROOTS, ("", *ROOTS)])
def test_a_member_that_leads_elsewhere_is_refused(member: str, roots: Sequence[str]) -> None:
    with pytest.raises(ValueError, match=r"not among what the manifest|no member of a"):
        member_path(member, FOLDER, roots)


def test_a_project_without_a_folder_has_no_members_below_it() -> None:
    with pytest.raises(ValueError, match="not among"):
        member_path("project/a", "", ROOTS)


def test_the_staged_files_stand_in_for_the_hosts_own() -> None:
    content = {
        "working_dir": FOLDER,
        "config_files": [f"{FOLDER}/compose.yml", "/etc/more.yml", f"{FOLDER}/lost.yml"],
        "environment_files": [f"{FOLDER}/.env", "/etc/lost.env"],
    }
    exists = {
        "/s/project/compose.yml": True,
        "/s/host/etc/more.yml": True,
        "/s/project/.env": True,
        "/s/project/lost.yml": False,
    }
    files = backup_files(content, "/s", exists)
    assert files.working_dir == "/s/project"
    assert files.config_files == (
        "/s/project/compose.yml",
        "/s/host/etc/more.yml",
        f"{FOLDER}/lost.yml",
    )
    assert files.environment_files == ("/s/project/.env", "/etc/lost.env")


@pytest.mark.parametrize("given", [{}, {"environment_files": None}])
def test_a_project_without_environment_files(given: dict[str, Any]) -> None:
    files = backup_files({"working_dir": FOLDER, "config_files": [], **given}, "/s", {})
    assert (files.config_files, files.environment_files) == ((), ())


# Who is touched


@pytest.mark.parametrize(
    ("changed", "touched"),
    [
        ([], []),
        ([f"{FOLDER}/nginx.conf"], ["nginx"]),
        ([f"{FOLDER}/rules/a/b.yml"], ["prometheus"]),
        ([f"{FOLDER}/rules"], ["prometheus"]),
        ([f"{FOLDER}/rules2/a", f"{FOLDER}/nginx.conf2"], []),
        ([f"{FOLDER}/rules/a", f"{FOLDER}/nginx.conf"], ["nginx", "prometheus"]),
        (["/volumes/data/a"], []),
        (["/etc/hosts"], []),
    ],
)
def test_services_that_have_a_changed_file(changed: list[str], touched: list[str]) -> None:
    containers = {
        "prometheus": [
            container(mounts=(Mount("bind", f"{FOLDER}/rules/", "/rules"),)),
            container(mounts=(Mount("volume", "/volumes/data", "/data"),)),
        ],
        "nginx": [container(mounts=(Mount("bind", f"{FOLDER}/nginx.conf", "/etc/nginx.conf"),))],
        "api": [container(mounts=(Mount("bind", "", "/x"), Mount("tmpfs", "", "/tmp")))],
        "gone": [],
    }
    assert touched_services(iter(changed), containers) == touched


def test_the_hosts_root_holds_everything() -> None:
    containers = {"exporter": [container(mounts=(Mount("bind", "/", "/host"),))]}
    assert touched_services([f"{FOLDER}/.env"], containers) == ["exporter"]


@pytest.mark.parametrize(
    ("command", "value"),
    [
        (["p", "--config.file=/a=b"], "/a=b"),
        (["p", "--config.file", "/a"], "/a"),
        (["p", "--config.file="], ""),
        (["p", "--config.file"], None),
        (["p", "--config.files=/a"], None),
        (["--config.file=/a", "--config.file=/b"], "/a"),
        ([], None),
    ],
)
def test_an_options_value(command: list[str], value: str | None) -> None:
    assert option_value(command, "--config.file") == value


# Whether the project is up

API = {"api": ComposeService("api", replicas=2)}


@pytest.mark.parametrize(
    ("containers", "ages", "told"),
    [
        ([], {}, ["api: 0 of 2 running, seen no container"]),
        (
            [container("a"), container("b", state="exited")],
            {"a": 60.0},
            ["api: 1 of 2 running, seen running, exited"],
        ),
        ([container("a", health="healthy"), container("b", health="healthy")], {}, []),
        (
            [container("a", health="starting"), container("b", health="unhealthy")],
            {"a": 60.0, "b": 60.0},
            ["a is starting, expected healthy", "b is unhealthy, expected healthy"],
        ),
        (
            [container("a"), container("b")],
            {"a": SETTLED_SECONDS, "b": SETTLED_SECONDS - 0.1},
            ["b has only just started"],
        ),
        ([container("a"), container("b")], {"a": 9.0}, ["b has only just started"]),
        ([container("a"), container("b"), container("c")], {"a": 9, "b": 9, "c": 9}, []),
    ],
)
def test_what_keeps_a_service_from_being_up(
    containers: list[Container], ages: dict[str, float], told: list[str]
) -> None:
    assert not_up(API, {"api": containers}, ages) == told


def test_what_need_not_be_up() -> None:
    services = {
        "migrate": ComposeService("migrate", one_shot=True),
        "spare": ComposeService("spare", replicas=0),
    }
    assert not_up(services, {"spare": [container(health="unhealthy")]}, {}) == []
    required = {name: dataclasses.replace(API["api"], name=name) for name in ("z", "a")}
    assert [text[0] for text in not_up(required, {}, {})] == ["a", "z"]


# What a diff may show


def show(text: str, path: str = f"{FOLDER}/x.yml", mode: int = 0o644) -> str:
    return shown(path, text.encode(), mode, [SECRET])


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o610, 0o100644])
def test_a_file_that_others_may_read_is_shown(mode: int) -> None:
    assert show("worker_processes 1;\n", mode=mode) == "worker_processes 1;\n"


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700, 0o100600])
def test_a_file_that_only_its_owner_may_read_is_not_shown(mode: int) -> None:
    assert show("plain", mode=mode) == "(not shown: 5 bytes that may be secret)\n"


@pytest.mark.parametrize("name", [".env", ".env.local", ".environment", "shop.env", "a/b/.env"])
def test_environment_files_are_not_shown(name: str) -> None:
    assert show("A=b", f"{FOLDER}/{name}") == "(not shown: 3 bytes that may be secret)\n"


def test_what_is_not_text_or_not_there_or_large() -> None:
    assert shown("/a", None, 0o600, []) == ""
    assert shown("/a", b"", 0o644, []) == ""
    assert shown("/a", b"\xff\xfe", 0o644, []) == "(not shown: 2 bytes that are no text)\n"
    limit = 256 * 1024
    assert shown("/a", b"x" * limit, 0o644, []) == "x" * limit
    assert shown("/a", b"x" * (limit + 1), 0o644, []) == f"(not shown: {limit + 1} bytes)\n"


def test_known_secrets_are_masked_wherever_they_stand() -> None:
    assert show(f"a: {SECRET}b\n") == f"a: {MASK}b\n"
    assert show("url: amqp://me:other@host/x\n") == f"url: amqp://me:{MASK}@host/x\n"


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ("POSTGRES_PASSWORD: s3cr3t", "POSTGRES_PASSWORD: "),
        ("      - API_TOKEN=s3cr3t", "      - API_TOKEN="),
        ('  "client_secret" : "s3cr3t",', '  "client_secret" : '),
        ("password = s3cr3t with blanks", "password = "),
        ("smtp_auth_password: 's3cr3t'", "smtp_auth_password: "),
        ("smtp_pass: s3cr3t", "smtp_pass: "),
        ("X-Api-Key: s3cr3t", "X-Api-Key: "),
        ("private_key: s3cr3t", "private_key: "),
        ("routing_key: s3cr3t", "routing_key: "),
        ("- api_url: https://hooks/s3cr3t", "- api_url: "),
        ("webhook_url: https://hooks/s3cr3t", "webhook_url: "),
        ('{"user": "a", "password": "s3cr3t"}', '{"user": "a", "password": '),
        ("login: {user: a, password: s3cr3t}", "login: {user: a, password: "),
        ('proxy_set_header Authorization "Basic s3cr3t";', 'proxy_set_header Authorization "'),
        ("requirepass s3cr3t", "requirepass "),
        ("command: redis-server --requirepass s3cr3t", "command: redis-server --requirepass "),
        ('command: ["--requirepass", "s3cr3t"]', 'command: ["--requirepass", "'),
        ("user default on #s3cr3t ~* +@all", "user default on "),
        ("user worker on >s3cr3t ~*", "user worker on "),
        ("password: s3cr\u2028s3cr3t", "password: "),
    ],
)
def test_what_stands_behind_a_secrets_name_is_masked(line: str, kept: str) -> None:
    assert show(f"before: 1\n{line}\nafter: 2\n") == f"before: 1\n{kept}{MASK}\nafter: 2\n"


@pytest.mark.parametrize(
    "head",
    [
        "password: |",
        "password: >-",
        "credentials:",
        "tokens: [",
        "password: |\r",
    ],
)
def test_what_is_indented_below_a_secrets_name_is_masked(head: str) -> None:
    text = f"a:\n  {head}\n    s3cr3t\n\n      more: s3cr3t\n  b: 1\n"
    assert show(text) == f"a:\n  {head}\n    {MASK}\n\n      {MASK}\n  b: 1\n"


@pytest.mark.parametrize(
    "text",
    [
        "proxy_pass http://api:8000;\n",
        "secrets:\n  db_key:\n    file: ./db_key\n",
        "keys: 1\nuser nginx;\nuser: 5\n",
        "no line end",
        "\n\n",
    ],
)
def test_what_is_no_secret_is_shown(text: str) -> None:
    assert show(text) == text


def test_what_may_be_a_comment_is_masked_with_what_is_below() -> None:
    assert show("tokens: # x\n  - s3cr3t\na: 1") == f"tokens: {MASK}\n  {MASK}\na: 1"
    assert show("password = #s3cr3t\na: 1") == f"password = {MASK}\na: 1"


def test_a_masked_line_keeps_the_rest_of_the_file_in_place() -> None:
    text = "a: 1\npassword:\n  x\ntoken: y"
    assert show(text) == f"a: 1\npassword:\n  {MASK}\ntoken: {MASK}"
