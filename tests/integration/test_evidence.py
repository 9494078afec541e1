# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Evidence of real containers: all that is listed is there and true, no secret is in it, nothing
about the containers changes, and what is not whole never looks like it."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._edges import evidence
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.docker import Engine, EngineError
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.evidence_bundle import (
    Files,
    unfinished,
    verify,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.evidence_engine import (
    EvidenceEngine,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.evidence_sources import Source
from ansible_collections.pynomaly.ops.plugins.module_utils._evidence import EvidenceError
from ansible_collections.pynomaly.ops.plugins.module_utils._operation import RunIdentity

from .conftest import Project, docker, wait_until
from .postgres import accepts, sql

POSTGRES_SECRET = "canary-pg/7f1@c0"
REDIS_SECRET = "canary-redis-19e4"
ACL_SECRET = "canary-acl-55d0"
FILE_SECRET = "canary-file-8a2b"
SALT = "canary-salt-31c9"
BLOB = "canaryblob0123"
ROLE_SECRET = "canary-role-902f"
COMMAND_SECRET = "canary-command-4d4d"
#: Known from nowhere: what stands in front of it gives it away.
UNKNOWN_SECRET = "canary-unknown-0001"
SECRETS = (
    *(POSTGRES_SECRET, REDIS_SECRET, ACL_SECRET, FILE_SECRET),
    *(SALT, BLOB, ROLE_SECRET, COMMAND_SECRET),
)
#: None of these may stand anywhere: the values, what they look like encoded, and their hashes.
FORBIDDEN = {
    form
    for secret in (*SECRETS, UNKNOWN_SECRET)
    for form in (
        secret,
        quote(secret, safe=""),
        base64.b64encode(secret.encode()).decode().rstrip("="),
        hashlib.sha256(secret.encode()).hexdigest(),
    )
} | {"SCRAM-SHA-256$"}

QUOTED = quote(POSTGRES_SECRET, safe="")
IDENTITY = RunIdentity("run-1", "alice", "controller-7", "2.19.0")
OPERATION = "incident_investigate"
MARK = "hello from the nginx container"

API = f"""
echo "ERROR:app.db:cannot connect to $DATABASE_URL"
echo "INFO:app.auth:salt $SESSION_SALT flags $FEATURE_BLOB"
echo "INFO:app.auth:basic {base64.b64encode(SALT.encode()).decode()}"
head -c 16375 /dev/zero | tr '\\0' 'x'; echo "$SESSION_SALT end of the long line"
echo "INFO:app:GET /login?user=bob&password={UNKNOWN_SECRET} 200"
exec 3<>/dev/tcp/postgres/5432
exec bash -c 'sleep infinity; true' worker --token {COMMAND_SECRET}
"""


@dataclass
class Place:
    """A running project, and where its evidence goes."""

    project: Project
    root: Path

    @property
    def settings(self) -> evidence.EvidenceSettings:
        return evidence.EvidenceSettings(
            project=self.project.name,
            state_dir=str(self.root / "state"),
            incident="20261124-1",
            reason="a test",
            timeout_seconds=120,
            source_timeout_seconds=30,
        )

    def gather(self, **options: Any) -> dict[str, Any]:
        names = {"step", "dry_run", "more_sources"}
        own = {name: options.pop(name) for name in names & set(options)}
        return evidence.gather(replace(self.settings, **options), IDENTITY, OPERATION, **own)

    def name(self, service: str) -> str:
        return self.project.container(service).name


@pytest.fixture(scope="module")
def running(engine: Engine) -> Iterator[Project]:
    project = Project(engine)
    try:
        server = project.start(
            "postgres",
            "postgres",
            {"POSTGRES_PASSWORD": POSTGRES_SECRET, "POSTGRES_USER": "postgres"},
        )
        project.start(
            "redis-cluster", "redis", command=["redis-server", "--requirepass", REDIS_SECRET]
        )
        nginx = project.start("nginx", "nginx")
        wait_until("PostgreSQL accepts", lambda: accepts(server))
        sql(
            server,
            "postgres",
            "ALTER SYSTEM SET log_statement = 'ddl'",
            "SELECT pg_reload_conf()",
        )
        wait_until(
            "statements are logged",
            lambda: sql(server, "postgres", "SHOW log_statement") == [("ddl",)],
        )
        sql(server, "postgres", f"CREATE ROLE intruder LOGIN SUPERUSER PASSWORD '{ROLE_SECRET}'")
        project.start(
            "pynomaly-api",
            "postgres",
            {
                "DATABASE_URL": f"postgresql://postgres:{QUOTED}@postgres/postgres",
                "REDIS_URL": f"redis://:{REDIS_SECRET}@redis-cluster:6379/0",
                "SESSION_SALT": SALT,
                "FEATURE_BLOB": BLOB,
                "SECRET_KEY_FILE": "/tmp/key",
                "LOG_LEVEL": "info",
            },
            ["-c", API],
            ["--entrypoint", "bash"],
        )
        api = project.container("pynomaly-api").name
        docker(
            "exec",
            api,
            "sh",
            "-c",
            f"echo {FILE_SECRET} > /tmp/key; echo {FILE_SECRET} > /proc/1/fd/1",
        )
        docker(
            "exec",
            nginx.name,
            "sh",
            "-c",
            f"echo '{MARK}' > /proc/1/fd/1; touch /usr/local/dropped",
        )
        redis = project.container("redis-cluster").name
        docker(
            "exec",
            redis,
            "redis-cli",
            "-a",
            REDIS_SECRET,
            "ACL",
            "SETUSER",
            "eve",
            "on",
            f">{ACL_SECRET}",
            "~*",
            "+@all",
        )
        yield project
    finally:
        project.close()


@pytest.fixture
def place(running: Project, tmp_path: Path) -> Place:
    return Place(running, tmp_path)


@pytest.fixture(scope="module")
def gathered(running: Project, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One whole bundle, for the tests that only read it."""
    one = Place(running, tmp_path_factory.mktemp("gathered"))
    server = running.container("postgres")
    with socket.create_connection((server.addresses[0], 5432), timeout=5):
        return one.gather()


def read(answer: dict[str, Any], path: str) -> str:
    return (Path(answer["path"]) / path).read_text()


def shown(content: bytes) -> list[str]:
    """The secrets that are in it."""
    return [form for form in sorted(FORBIDDEN) if form.encode() in content]


def load(answer: dict[str, Any], path: str) -> Any:
    return json.loads(read(answer, path))


def everything(folder: Path) -> bytes:
    return b"\n".join(one.read_bytes() for one in sorted(folder.rglob("*")) if one.is_file())


# What is there


def test_all_that_is_listed_is_there_and_nothing_of_the_stack_is_missing(
    gathered: dict[str, Any], running: Project
) -> None:
    stack = [one for one in gathered["problems"] if not one["source"].startswith("host/")]
    assert stack == []
    folder = Path(gathered["path"])
    assert folder.parent.parts[-3:] == ("incidents", "20261124-1", "evidence")
    for service in ("postgres", "redis-cluster", "nginx", "pynomaly-api"):
        name = running.container(service).name
        for file in ("inspect", "image", "processes", "connections", "executables"):
            assert load(gathered, f"containers/{name}/{file}.json"), (service, file)
        assert read(gathered, f"containers/{name}/top.txt").startswith("PID")
        assert read(gathered, f"containers/{name}/diff.txt")
        assert (folder / f"logs/{service}.1.log").exists() or service == "redis"
    for file in (
        *("docker/containers.json", "docker/networks.json", "docker/events.jsonl"),
        *("docker/images.json", "docker/engine.json", "postgres/activity.json"),
        *("postgres/roles.json", "postgres/role_changes.json", "postgres/role_changes.1.log"),
        *("redis/clients.txt", "redis/acl.txt", "redis/info.txt", "redis/settings.json"),
        *("host/connections.json", "host/listening.txt", "host/processes.jsonl"),
        *("host/cron.txt", "host/users.txt", "host/system.txt", "evidence.json"),
        *("redactions.json", "custody.jsonl", "SHA256SUMS", "logs/index.json"),
    ):
        assert (folder / file).stat().st_size, file


def test_what_is_there_is_true(gathered: dict[str, Any], running: Project) -> None:
    nginx, server = running.container("nginx"), running.container("postgres")
    inspected = load(gathered, f"containers/{nginx.name}/inspect.json")
    assert inspected["Id"] == nginx.id
    assert load(gathered, f"containers/{nginx.name}/image.json")["Id"] == nginx.image_id
    assert "A /usr/local/dropped" in read(gathered, f"containers/{nginx.name}/diff.txt")

    log = read(gathered, "logs/nginx.1.log").splitlines()
    (line,) = [one for one in log if MARK in one]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", line.split()[0])
    (entry,) = [one for one in load(gathered, "logs/index.json") if one["service"] == "nginx"]
    assert (entry["component"], entry["container_id"]) == ("nginx", nginx.id)
    assert entry["lines"] == len(log)

    inside = load(gathered, f"containers/{server.name}/processes.json")
    assert server.pid in [one["pid"] for one in inside]
    assert {one["pid_namespace"] for one in inside} == {
        str(Path(f"/proc/{server.pid}/ns/pid").readlink())
    }
    assert all(one["pid_inside"] > 0 and one["started_at"] for one in inside)
    listening = [
        one
        for one in load(gathered, f"containers/{server.name}/connections.json")
        if one["state"] == "listen" and one["local_port"] == 5432
    ]
    assert listening and all(server.pid in one["pids"] for one in listening)
    # The test's own connection, open while it was gathered, from the host's side of the bridge.
    rows = next(t for t in gathered["tables"] if t["title"] == "Connections from elsewhere")["rows"]
    assert any(row[1] == server.name and row[2] == 5432 for row in rows)

    programs = load(gathered, f"containers/{nginx.name}/executables.json")
    (own,) = [one for one in programs if one["executable"].endswith("nginx")]
    exe = Path(f"/proc/{nginx.pid}/exe")
    assert own["sha256"] == hashlib.sha256(exe.read_bytes()).hexdigest()


def test_databases_tell_who_is_there_and_which_roles_changed(gathered: dict[str, Any]) -> None:
    roles = load(gathered, "postgres/roles.json")
    (intruder,) = [one for one in roles["roles"] if one["rolname"] == "intruder"]
    assert intruder["rolsuper"] is True
    methods = {one["auth_method"] for one in roles["host_based_authentication"]}
    assert methods <= {"trust", "scram-sha-256", "md5", "reject", "peer"} and methods
    assert "rolpassword" not in read(gathered, "postgres/roles.json")
    changes = load(gathered, "postgres/role_changes.json")
    assert changes["role_row_ages"][0]["rolname"] == "intruder"
    told = " ".join(changes["what_cannot_be_known"])
    assert "track_commit_timestamp is off" in told and "log_statement" not in told
    statements = read(gathered, "postgres/role_changes.1.log")
    assert "CREATE ROLE intruder LOGIN SUPERUSER PASSWORD '<redacted:" in statements
    assert any(
        one["application_name"].startswith("pynomaly")
        for one in load(gathered, "postgres/activity.json")
        if one["application_name"]
    )
    acl = read(gathered, "redis/acl.txt")
    assert "user eve on" in acl and "#<redacted:" in acl
    assert "cmd=client" in read(gathered, "redis/clients.txt")


def test_documents_can_be_read(gathered: dict[str, Any]) -> None:
    """What is redacted in the text of a document leaves it one."""
    folder = Path(gathered["path"])
    for path in folder.rglob("*.json"):
        assert json.loads(path.read_text()) is not None, path
    for path in folder.rglob("*.jsonl"):
        assert [json.loads(line) for line in path.read_text().splitlines()], path


# Secrets


def test_no_secret_is_anywhere(gathered: dict[str, Any]) -> None:
    folder = Path(gathered["path"])
    content = everything(folder) + json.dumps(gathered).encode()
    assert shown(content) == []
    assert b"end of the long line" in content


def test_markers_are_the_same_for_the_same_secret_and_told_of(
    gathered: dict[str, Any], running: Project
) -> None:
    log = read(gathered, "logs/pynomaly-api.1.log")
    name = running.container("pynomaly-api").name
    inspected = load(gathered, f"containers/{name}/inspect.json")["Config"]["Env"]
    (variable,) = [one for one in inspected if one.startswith("SESSION_SALT=")]
    marker = variable.partition("=")[2]
    assert marker.startswith("<redacted:")
    assert f"salt {marker} flags" in log
    assert "LOG_LEVEL=info" in inspected
    url = next(one for one in inspected if one.startswith("DATABASE_URL="))
    assert url.startswith("DATABASE_URL=postgresql://postgres:<redacted:")
    assert url.endswith("@postgres/postgres")

    told = load(gathered, "redactions.json")
    assert told["counts"]["logs/pynomaly-api.1.log"]["known value"] >= 4
    assert f"{name}: SESSION_SALT" in told["known"]
    assert f"{name}: SECRET_KEY_FILE" in told["known"]


# It holds


def test_sha256sum_and_the_chain_agree(gathered: dict[str, Any]) -> None:
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"],
        cwd=gathered["path"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    listed = len(read(gathered, "SHA256SUMS").splitlines())
    assert listed == gathered["files"] - 1
    head, files, problems = verify(Path(gathered["path"]), gathered["head"])
    assert (head, files, problems) == (gathered["head"], gathered["files"], [])
    records = [json.loads(line) for line in read(gathered, "custody.jsonl").splitlines()]
    assert records[0]["run"]["user"] == "alice" and records[0]["tools"]["docker"]
    assert all(one["command"] for one in records if one["event"] == "collected")


def _flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("logs/nginx.1.log", "logs/nginx.1.log differs from its SHA-256"),
        ("custody.jsonl", "custody.jsonl differs from its SHA-256"),
        ("evidence.json", "evidence.json differs from its SHA-256"),
    ],
)
def test_a_flipped_byte_is_found(
    gathered: dict[str, Any], tmp_path: Path, path: str, expected: str
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(gathered["path"], copy)
    assert verify(copy)[2] == []
    _flip(copy / path, 40)
    with pytest.raises(EvidenceError, match=expected):
        evidence.verified(str(copy))


def test_a_file_that_is_changed_with_its_checksum_is_found_by_the_chain(
    gathered: dict[str, Any], tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(gathered["path"], copy)
    log = copy / "logs/nginx.1.log"
    log.write_text("nothing happened\n")
    before, digest = read(gathered, "SHA256SUMS"), hashlib.sha256(log.read_bytes()).hexdigest()
    lines = [
        f"{digest}  logs/nginx.1.log" if line.endswith("  logs/nginx.1.log") else line
        for line in before.splitlines()
    ]
    (copy / "SHA256SUMS").write_text("\n".join(lines) + "\n")
    with pytest.raises(
        EvidenceError, match=r"logs/nginx.1.log differs from its SHA-256 in custody"
    ):
        evidence.verified(str(copy))
    with pytest.raises(EvidenceError, match="the chain of custody ends in"):
        evidence.verified(gathered["path"], "0" * 64)


def test_a_file_that_went_and_one_too_many_are_found(
    gathered: dict[str, Any], tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(gathered["path"], copy)
    (copy / "logs/nginx.1.log").unlink()
    (copy / "planted").write_text("x")
    problems = " ".join(verify(copy)[2])
    assert "logs/nginx.1.log is missing" in problems
    assert "planted is not in SHA256SUMS" in problems


def test_modes(gathered: dict[str, Any]) -> None:
    folder = Path(gathered["path"])
    for one in (folder, folder.parent, *folder.rglob("*")):
        assert one.stat().st_mode & 0o777 == (0o700 if one.is_dir() else 0o600), one


# It changes nothing


def _fingerprint(project: Project) -> dict[str, Any]:
    """All that is known of the containers, without what passes by itself."""
    found = {}
    for one in project.engine.list_project_containers(project.name):
        data = json.loads(docker("inspect", one.name).stdout)[0]
        data["State"].pop("Health", None)
        data.pop("ExecIDs", None)
        found[one.name] = (data, sorted(docker("diff", one.name).stdout.splitlines()))
    return found


def test_nothing_about_the_containers_changes_and_nothing_is_run_in_them(place: Place) -> None:
    before, began = _fingerprint(place.project), time.time()
    place.gather()
    assert _fingerprint(place.project) == before
    events = docker(
        *("events", "--since", f"{began:.3f}", "--until", f"{time.time():.3f}"),
        *("--format", "{{json .}}"),
    ).stdout.splitlines()
    done = {
        one["Action"]
        for one in map(json.loads, events)
        if one["Actor"]["Attributes"].get("name") in before
    }
    assert done == {"top"}  # which is the host's ps
    container = place.project.container("nginx")
    with pytest.raises(EngineError, match="is not run in a container"):
        EvidenceEngine().run(container.id, ["true"], 1)


def test_check_mode_writes_nothing(place: Place) -> None:
    answer = place.gather(dry_run=True)
    assert answer["path"] == "" and "postgres/activity" in answer["sources"]
    assert not (place.root / "state").exists()


# Bounds


def test_quick_is_quick_and_has_what_vanishes(place: Place) -> None:
    began = time.monotonic()
    answer = place.gather(quick=True)
    assert time.monotonic() - began < 20
    name = place.name("postgres")
    for file in (f"containers/{name}/processes.json", f"containers/{name}/connections.json"):
        assert load(answer, file)
    assert load(answer, "postgres/activity.json")
    assert MARK in read(answer, "logs/nginx.1.log")
    assert not (Path(answer["path"]) / f"containers/{name}/diff.txt").exists()
    assert shown(everything(Path(answer["path"]))) == []


def test_quick_ends_where_everything_hangs(place: Place) -> None:
    def hang(_files: Files, _seconds: float) -> None:
        threading.Event().wait(60)

    sources = [Source(f"host/hangs{number}", "nothing", hang) for number in range(30)]
    began = time.monotonic()
    answer = place.gather(quick=True, more_sources=sources)
    assert time.monotonic() - began < 20
    assert MARK in read(answer, "logs/nginx.1.log")
    left = {one["source"] for one in answer["problems"]}
    assert {one.name for one in sources} <= left
    assert not answer["complete"]


def test_a_source_that_fails_or_hangs_is_told_and_stops_nothing(place: Place) -> None:
    late: list[str] = []

    def fail(_files: Files, _seconds: float) -> None:
        raise RuntimeError(f"it broke over {SALT}")

    def hang(files: Files, _seconds: float) -> None:
        sink = files.open("host/hangs.txt")
        sink.write("the first part\n")
        time.sleep(3)
        for act in (lambda: sink.write("too late\n"), lambda: files.text("host/more.txt", "x\n")):
            try:
                act()
            except Exception as error:
                late.append(type(error).__name__)

    answer = place.gather(
        source_timeout_seconds=1.5,
        more_sources=[Source("host/fails", "-", fail), Source("host/hangs", "-", hang)],
    )
    problems = {one["source"]: one for one in answer["problems"]}
    assert problems["host/fails"]["status"] == "failed"
    assert "RuntimeError: it broke over <redacted:" in problems["host/fails"]["reason"]
    assert problems["host/hangs"]["status"] == "cut"
    assert "did not end within" in problems["host/hangs"]["reason"]
    assert read(answer, "host/hangs.txt") == "the first part\n"
    assert MARK in read(answer, "logs/nginx.1.log")
    wait_until("the thread has ended", lambda: len(late) == 2)
    assert late == ["SinkClosedError", "SinkClosedError"]
    assert unfinished(Path(answer["path"]).parent) == []
    assert verify(Path(answer["path"]))[2] == []
    assert "host/fails" in read(answer, "custody.jsonl")


def test_of_a_long_log_the_newest_part_is_kept(place: Place) -> None:
    name = place.name("nginx")
    docker("exec", name, "sh", "-c", "seq -f 'line %06g of the flood' 1 60000 > /proc/1/fd/1")
    answer = place.gather(services=["nginx"], max_bytes=1024 * 1024)
    path = Path(answer["path"]) / "logs/nginx.1.log"
    lines = path.read_text().splitlines()
    assert path.stat().st_size <= 1024 * 1024
    assert "line 060000 of the flood" in lines[-1]
    numbers = [int(line.split()[2]) for line in lines]
    assert numbers == list(range(numbers[0], 60001))
    (problem,) = [one for one in answer["problems"] if one["source"] == "logs/nginx.1"]
    assert problem["status"] == "cut" and "the oldest" in problem["reason"]
    (entry,) = load(answer, "logs/index.json")
    assert entry["lines"] == len(lines)


def test_of_a_log_that_takes_too_long_the_newest_lines_are_had(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = EvidenceEngine.stamped_lines

    def slow(
        self: EvidenceEngine, container_id: str, since: float, seconds: float, tail: int | None
    ) -> Iterator[bytes]:
        for number, line in enumerate(whole(self, container_id, since, seconds, tail)):
            if tail is None and number == 3:
                raise TimeoutError
            yield line

    docker("exec", place.name("nginx"), "sh", "-c", "seq -f 'slow %06g' 1 30000 > /proc/1/fd/1")
    monkeypatch.setattr(EvidenceEngine, "stamped_lines", slow)
    answer = place.gather(services=["nginx"])
    lines = read(answer, "logs/nginx.1.log").splitlines()
    assert lines[-1].endswith("slow 030000")
    stamps = [line.split()[0] for line in lines]
    assert stamps == sorted(stamps) and len(lines) == 20_003
    (problem,) = [one for one in answer["problems"] if one["source"] == "logs/nginx.1"]
    assert f"between {stamps[2]} and {stamps[3]}" in problem["reason"]


def test_without_an_engine_there_is_evidence_of_the_host(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")
    answer = place.gather()
    problems = {one["source"]: one["reason"] for one in answer["problems"]}
    assert "evidence of the host alone" in problems["docker"]
    assert load(answer, "host/connections.json")
    assert not (Path(answer["path"]) / "logs").exists()


def test_a_project_that_is_not_there_is_told(place: Place) -> None:
    answer = place.gather(project="inttest-nowhere", quick=True)
    problems = {one["source"]: one["reason"] for one in answer["problems"]}
    assert place.project.name in problems["containers"]
    assert not answer["complete"]


def test_a_secret_that_cannot_be_read_is_told(place: Place) -> None:
    """A file behind a symbolic link is had from the engine; one that nobody gives is a problem."""
    name = place.name("pynomaly-api")
    docker("exec", name, "sh", "-c", "mv /tmp/key /tmp/moved && ln -s moved /tmp/key")
    try:
        answer = place.gather(services=["pynomaly-api"])
        assert shown(everything(Path(answer["path"]))) == []
        docker("exec", name, "sh", "-c", "rm /tmp/key && mkdir /tmp/key")
        answer = place.gather(quick=True)
        problems = {one["source"]: one["reason"] for one in answer["problems"]}
        assert f"{name}: SECRET_KEY_FILE names /tmp/key" in problems["redaction"]
        told = load(answer, "redactions.json")["not_known_because_unreadable"]
        assert "SECRET_KEY_FILE" in str(told)
    finally:
        docker("exec", name, "sh", "-c", "rm -rf /tmp/key && mv /tmp/moved /tmp/key")


def test_a_paused_or_stopped_container_is_no_obstacle(place: Place) -> None:
    name = place.name("redis-cluster")
    docker("pause", name)
    try:
        answer = place.gather(quick=True)
    finally:
        docker("unpause", name)
    sources = [one["source"] for one in answer["problems"]]
    assert "postgres/activity" not in sources
    assert (Path(answer["path"]) / "logs/redis-cluster.1.log").exists()


def test_what_makes_no_sense_is_refused(place: Place) -> None:
    with pytest.raises(EvidenceError, match="services: seen nope"):
        place.gather(services=["nope"])
    with pytest.raises(EvidenceError, match="incident: seen"):
        place.gather(incident="../../etc")
    assert not (place.root / "state").exists()


# What is not whole


@pytest.mark.parametrize(
    "deadly",
    [
        *("staged", "host/connections", "docker/containers", "gathered"),
        *("indexed", "custody", "summed", "synced"),
    ],
)
def test_a_kill_leaves_nothing_that_looks_whole(place: Place, deadly: str) -> None:
    child = os.fork()
    if not child:

        def step(name: str) -> None:
            if name == deadly:
                os.kill(os.getpid(), signal.SIGKILL)

        place.gather(quick=True, step=step)
        os._exit(0)
    _pid, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), deadly
    parent = place.settings.parent
    assert [one.name for one in parent.iterdir() if not one.name.startswith(".partial-")] == []
    (left,) = unfinished(parent)
    assert verify(left)[2] == [f"{left.name} was never finished"]
    with pytest.raises(EvidenceError, match="was never finished"):
        evidence.verified(str(left))
    assert shown(everything(left)) == []

    answer = place.gather(quick=True)
    assert verify(Path(answer["path"]))[2] == []
    assert any(str(left) in one for one in answer["remarks"])


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """A filesystem of a few mebibytes."""
    mounted: list[Path] = []

    def make(mebibytes: int) -> Path:
        folder = tmp_path / "small"
        folder.mkdir()
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", str(folder)],
            check=True,
            timeout=10,
        )
        mounted.append(folder)
        return folder

    yield make
    for folder in mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True, timeout=10)


def test_a_full_disk_is_told_before_anything_is_written(
    place: Place, small_disk: Callable[[int], Path]
) -> None:
    folder = small_disk(8)
    with pytest.raises(EvidenceError, match=r"seen 8(\.0)? MiB free, expected 64") as refused:
        place.gather(state_dir=str(folder))
    assert "df -h" in refused.value.hint
    assert list(folder.iterdir()) == []


def test_a_disk_that_fills_up_leaves_no_bundle(
    place: Place, small_disk: Callable[[int], Path]
) -> None:
    folder = small_disk(6)

    def fill(_files: Files, _seconds: float) -> None:
        """Somebody else's file takes all there is."""
        with contextlib.suppress(OSError), (folder / "others").open("wb") as file:
            while True:
                file.write(b"x" * 65536)
                file.flush()

    with pytest.raises(EvidenceError, match="No space left") as refused:
        place.gather(
            state_dir=str(folder), reserve_bytes=0, more_sources=[Source("host/x", "-", fill)]
        )
    assert "df -h" in refused.value.hint
    assert [one.name for one in (folder / "incidents/20261124-1/evidence").iterdir()] == []


def test_what_does_not_fit_is_cut_and_the_rest_is_whole(
    place: Place, small_disk: Callable[[int], Path]
) -> None:
    folder = small_disk(24)
    docker(
        "exec",
        place.name("nginx"),
        "sh",
        "-c",
        "head -c 30000000 /dev/zero | tr '\\0' 'y' | fold -w 1000 > /proc/1/fd/1",
    )
    answer = place.gather(state_dir=str(folder), reserve_bytes=8 * 1024 * 1024, services=["nginx"])
    (problem,) = [one for one in answer["problems"] if one["source"] == "logs/nginx.1"]
    assert problem["status"] == "cut" and "less than 8.0 MiB free" in problem["reason"]
    assert verify(Path(answer["path"]))[2] == []
    assert load(answer, "host/connections.json")
