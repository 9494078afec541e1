# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Backups of configuration, models and Redis out of a real project, and what breaks them."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
import tarfile
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._backup import Backup, BackupError
from ansible_collections.pynomaly.ops.plugins.module_utils._context import Container
from ansible_collections.pynomaly.ops.plugins.module_utils._edges import (
    archive,
    files_backup,
    redis,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.backup_store import BackupStore
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.docker import Engine
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.encryption import decrypt_tree
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.engine_control import (
    EngineControl,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.files_backup import (
    FilesBackupSettings,
    run,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.http import Deadline
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.operation_store import (
    OperationStore,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.temporary_states import (
    TemporaryStates,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._files_backup import (
    host_path,
    member_differences,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._operation import RunIdentity

from .conftest import LABEL, docker, image, wait_until

pytestmark = pytest.mark.usefixtures("compose_plugin")

PASSWORD = "canary-files-backup-8c"
FILE = """\
services:
  pynomaly-api:
    image: IMAGE
    entrypoint: ["sleep", "infinity"]
    init: true
    user: root
    labels: [LABEL]
    env_file: [api.env]
    environment: {REDIS_URL: "redis://:${PASSWORD}@redis-cluster:6379/0"}
    volumes:
      - models:/app/models
      - ./conf:/etc/shop:ro
      - ./pgdata:/var/lib/postgresql/data
      - ./large:/large
      - ./note.txt:/note.txt
      - /etc/hostname:/hostname:ro
    secrets: [key]
  redis-cluster:
    image: IMAGE
    command: [redis-server, --requirepass, "${PASSWORD}", --save, ""]
    labels: [LABEL]
volumes:
  models: {labels: [LABEL]}
networks:
  default: {labels: [LABEL]}
secrets:
  key: {file: ./key}
"""


@dataclass
class Shop:
    """A project that Compose brought up, and where its backups go."""

    name: str
    folder: Path
    backup_dir: Path
    engine: Engine
    state_dir: Path

    @property
    def store(self) -> BackupStore:
        return BackupStore(str(self.backup_dir), self.name)

    @property
    def states(self) -> TemporaryStates:
        identity = RunIdentity("run-1", "tester", "here")
        return TemporaryStates(OperationStore(str(self.state_dir)), identity, "backup", self.name)

    def settings(self, kind: str, **changes: Any) -> FilesBackupSettings:
        known: dict[str, Any] = {
            "project": self.name,
            "kind": kind,
            "backup_dir": str(self.backup_dir),
            # By its image it would be another Redis.
            "service_names": {"api": "pynomaly-api"},
            "paths": ("/app/models",) if kind == "models" else (),
            "reserve_bytes": 0,
            "timeout_seconds": 60.0,
        }
        return FilesBackupSettings(**{**known, **changes})

    def run(self, kind: str, dry_run: bool = False, **changes: Any) -> dict[str, Any]:
        """Make a backup; no secret is in what is told of it."""
        answer = run(self.settings(kind, **changes), self.states, dry_run)
        assert PASSWORD not in json.dumps(answer)
        return answer

    def newest(self, kind: str) -> Backup:
        return self.store.backups([kind])[0]

    def container(self, service: str) -> Container:
        return next(
            one for one in self.engine.list_project_containers(self.name) if one.service == service
        )

    def execute(self, service: str, *argv: str) -> str:
        return docker("exec", self.container(service).name, *argv).stdout

    def ask(self, *words: str) -> Any:
        address = (self.container("redis-cluster").addresses[0], 6379)
        with closing(redis.Connection(address, False, Deadline(30))) as connection:
            connection.ask("AUTH", PASSWORD)
            return connection.ask(*words)

    def answers(self) -> bool:
        try:
            return bool(self.ask("PING") == b"PONG")
        except redis.NoAnswerError:
            return False

    def nothing_is_left(self) -> bool:
        """No staging on the disk, no helper in the engine, no state open in the journal."""
        helpers = docker(
            "ps", "--all", "--quiet", "--filter", f"label=ops.pynomaly.helper={self.name}"
        )
        return not self.store.stagings() and not helpers.stdout and not self.states.left()


@pytest.fixture(scope="module")
def project_folder(
    tmp_path_factory: pytest.TempPathFactory,
    compose_plugin: None,  # noqa: ARG001  # it has to be there before
) -> Iterator[tuple[str, Path]]:
    """A running project of two services."""
    name, folder = f"inttest-{uuid.uuid4().hex[:8]}", tmp_path_factory.mktemp("shop")
    (folder / "compose.yaml").write_text(
        FILE.replace("IMAGE", image("redis")).replace("LABEL", LABEL)
    )
    (folder / ".env").write_text(f"PASSWORD={PASSWORD}\n")
    (folder / ".env").chmod(0o600)
    (folder / "api.env").write_text("LEVEL=info\n")
    (folder / "key").write_text(PASSWORD)
    (folder / "note.txt").write_text("é\n")
    for name_of_folder in ("conf", "pgdata", "large", "config"):
        (folder / name_of_folder).mkdir()
    (folder / "conf" / "a.conf").write_text("listen 80;\n")
    (folder / "conf" / "link.conf").symlink_to("a.conf")
    (folder / "conf" / "dangling").symlink_to("gone")
    (folder / "pgdata" / "PG_VERSION").write_text("17\n")
    (folder / "large" / "table.bin").write_bytes(b"x" * 3_000_000)
    (folder / "config" / "app.yml").write_text("level: info\n")
    (folder / "config" / "app.yml").chmod(0o640)
    compose = ("compose", "--project-name", name, "--project-directory", str(folder))
    docker(*compose, "up", "--detach", "--wait", timeout_seconds=120)
    try:
        yield name, folder
    finally:
        docker(*compose, "down", "--volumes", "--timeout", "1", timeout_seconds=120)


@pytest.fixture
def shop(project_folder: tuple[str, Path], tmp_path: Path, engine: Engine) -> Shop:
    made = Shop(*project_folder, tmp_path / "backups", engine, tmp_path / "state")
    wait_until("Redis answers", made.answers)
    return made


def members_of(backup: Backup) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(Path(backup.path) / "archive.tar.gz") as opened:
        return {member.name: member for member in opened.getmembers()}


def content_of(backup: Backup) -> Any:
    assert backup.manifest is not None
    return backup.manifest.content


def read_again(backup: Backup) -> list[str]:
    """How the archive differs from what the manifest says is in it."""
    seen = archive.read_members(Path(backup.path) / "archive.tar.gz", Deadline(30))
    return member_differences(content_of(backup)["members"], seen.content())


# Configuration


def test_the_configuration_is_what_the_project_is_made_of(shop: Shop) -> None:
    answer = shop.run("config", path_max_bytes=1_000_000)
    backup = shop.newest("config")
    assert (answer["made"], answer["changed"], answer["remarks"]) == (True, True, [])
    assert answer["path"] == backup.path
    found = members_of(backup)
    files = {name for name, member in found.items() if member.isfile()}
    assert files == {
        "project/.env",
        "project/api.env",
        "project/compose.yaml",
        "project/conf/a.conf",
        "project/conf/link.conf",
        "project/config/app.yml",
        "project/key",
        "project/note.txt",
    }
    assert all(member.isfile() or member.isdir() for member in found.values())
    assert found["project/config/app.yml"].mode == 0o640
    assert found["project/.env"].mode == 0o600
    assert (shop.store.check_files(backup), read_again(backup)) == ([], [])
    content = content_of(backup)
    for one in content["members"]["listed"]:
        data = Path(host_path(one["path"], str(shop.folder))).read_bytes()
        assert one["sha256"] == hashlib.sha256(data).hexdigest()
    assert content["links"] == [
        {"path": "project/conf/dangling", "target": "gone"},
        {"path": "project/conf/link.conf", "target": "a.conf"},
    ]
    assert content["working_dir"] == str(shop.folder)
    assert content["config_files"] == [str(shop.folder / "compose.yaml")]
    assert set(content["images"]) == {"pynomaly-api", "redis-cluster"}
    manifest = (Path(backup.path) / "manifest.json").read_text()
    assert PASSWORD not in manifest
    assert shop.nothing_is_left()


def test_what_is_left_out_of_the_configuration_is_named(shop: Shop) -> None:
    answer = shop.run("config", path_max_bytes=1_000_000)
    left = {one["path"]: one["reason"] for one in answer["left_out"]}
    folder = str(shop.folder)
    assert left[f"{folder}/pgdata"].endswith("a service's data")
    assert "it holds more than 1000000 bytes" in left[f"{folder}/large"]
    assert "outside of the project's folder" in left["/etc/hostname"]
    assert left[f"{folder}/conf/dangling"] == "a link to gone"
    more = shop.run("config", id=f"{shop.name}-20300101T000000Z", paths=("/etc/hostname",))
    names = members_of(shop.newest("config"))
    assert "/etc/hostname" not in {one["path"] for one in more["left_out"]}
    assert {"host/etc/hostname", "project/large/table.bin"} <= set(names)


def test_a_project_whose_files_cannot_be_read_is_told(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files_backup, "compose_command", lambda: ["/nonexistent/compose"])
    answer = shop.run("config")
    assert "the Compose files cannot be read" in answer["remarks"][0]
    assert "project/compose.yaml" in members_of(shop.newest("config"))
    assert "project/conf/a.conf" in members_of(shop.newest("config")), "by the container's mounts"


def test_check_mode_writes_nothing(shop: Shop) -> None:
    for kind in ("config", "models", "redis"):
        before = shop.ask("LASTSAVE")
        answer = shop.run(kind, dry_run=True)
        assert (answer["made"], answer["changed"], answer["size_bytes"]) == (True, True, 0)
        assert shop.ask("LASTSAVE") == before
    assert not shop.backup_dir.exists()
    assert not shop.state_dir.exists()


def test_a_project_that_is_not_there_has_nothing(shop: Shop) -> None:
    other = replace(shop, name="inttest-nothing")
    for kind, reason in (
        ("config", "no container of project inttest-nothing was seen"),
        ("models", "project inttest-nothing has no API"),
        ("redis", "project inttest-nothing has no Redis"),
    ):
        answer = other.run(kind)
        assert (answer["made"], answer["changed"]) == (False, False)
        assert answer["reason"].startswith(reason)


def test_the_same_id_is_refused(shop: Shop) -> None:
    identifier = f"{shop.name}-20260101T000000Z"
    shop.run("config", id=identifier)
    with pytest.raises(BackupError, match="already"):
        shop.run("config", id=identifier)
    assert len(shop.store.backups(["config"])) == 1
    assert shop.nothing_is_left()


def test_an_encrypted_backup_has_nothing_in_the_clear(shop: Shop, tmp_path: Path) -> None:
    made = subprocess.run(["age-keygen"], capture_output=True, text=True, check=True, timeout=10)
    identity = made.stdout.splitlines()[-1]
    recipient = next(line for line in made.stdout.splitlines() if "public key" in line).split()[-1]
    shop.run("config", recipients=(recipient,))
    backup = shop.newest("config")
    assert [path.name for path in sorted(Path(backup.path).iterdir())] == [
        "archive.tar.gz.age",
        "manifest.json",
        "manifest.sha256",
    ]
    assert backup.manifest is not None
    assert backup.manifest.encryption == {"method": "age", "recipients": [recipient]}
    clear = tmp_path / "clear"
    clear.mkdir()
    decrypt_tree(Path(backup.path), clear, identity, 10)
    seen = archive.read_members(clear / "archive.tar.gz", Deadline(10))
    assert member_differences(content_of(backup)["members"], seen.content()) == []


# Models


@pytest.fixture
def models(shop: Shop) -> Shop:
    """Model artifacts of every shape."""
    shop.execute(
        "pynomaly-api",
        *("sh", "-c"),
        "rm -rf /app/models/* && cd /app/models && mkdir -p v1/empty 'v 2' && "
        "head -c 5000000 /dev/urandom > v1/model.bin && echo '{}' > 'v 2/é.json' && "
        "chmod 640 v1/model.bin && ln -s v1 current && ln v1/model.bin hard && mkfifo pipe && "
        ": > zero",
    )
    return shop


def test_models_are_archived_as_they_are_in_the_container(models: Shop) -> None:
    answer = models.run("models")
    backup = models.newest("models")
    names = members_of(backup)
    prefix = "app/models"
    lines = models.execute(
        "pynomaly-api", "sh", "-c", "cd / && find app/models -type f | xargs -d '\\n' sha256sum"
    ).splitlines()
    sums = {path: digest for digest, path in (line.split(None, 1) for line in lines)}
    content = content_of(backup)
    listed = {one["path"]: one["sha256"] for one in content["members"]["listed"]}
    linked = {one["path"]: one["target"] for one in content["links"]}
    assert linked.pop(f"{prefix}/current") == "v1"
    ((second, first),) = linked.items()
    assert {first, second} == {f"{prefix}/hard", f"{prefix}/v1/model.bin"}
    assert listed == {path: digest for path, digest in sums.items() if path != second}
    assert names[first].mode == 0o640
    assert names[f"{prefix}/v1/empty"].isdir()
    assert all(member.isfile() or member.isdir() for member in names.values())
    assert [one["path"] for one in answer["left_out"]] == [f"{prefix}/pipe"]
    assert (models.store.check_files(backup), read_again(backup)) == ([], [])
    assert answer["members"] == 3
    assert models.nothing_is_left()


def test_paths_that_are_not_there_are_told(models: Shop) -> None:
    answer = models.run("models", paths=("/srv/none",))
    assert answer["made"] is False
    assert answer["reason"].endswith("has no /srv/none")
    both = models.run("models", paths=("/srv/none", "/app/models/v1"))
    assert both["left_out"][0]["path"] == "/srv/none"
    assert "app/models/v1/model.bin" in members_of(models.newest("models"))


def test_a_stream_that_is_cut_off_leaves_nothing(
    models: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = EngineControl.archive
    for cut_at in (3_000_000, -1024):

        def cut(
            engine: EngineControl, container_id: str, path: str, at: int = cut_at
        ) -> Iterator[bytes]:
            data = b"".join(whole(engine, container_id, path))
            yield data[:at]

        with monkeypatch.context() as patched:
            patched.setattr(EngineControl, "archive", cut)
            with pytest.raises(BackupError, match=r"damaged|cut off"):
                models.run("models")
        assert models.store.backups() == []
        assert models.nothing_is_left()


def test_one_bit_of_an_archive_is_found_by_reading_it(models: Shop) -> None:
    models.run("models")
    path = Path(models.newest("models").path) / "archive.tar.gz"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(BackupError, match="cannot be read"):
        read_again(models.newest("models"))
    path.write_bytes(data[: len(data) // 3])
    with pytest.raises(BackupError, match="cannot be read"):
        read_again(models.newest("models"))


@contextmanager
def small_disk(place: Path, size: str) -> Iterator[None]:
    place.mkdir()
    argv = ["mount", "-t", "tmpfs", "-o", f"size={size}", "inttest-disk", str(place)]
    mounted = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=10)
    assert mounted.returncode == 0, f"a tmpfs is needed to test a full disk: {mounted.stderr}"
    try:
        yield
    finally:
        subprocess.run(["umount", str(place)], check=True, timeout=10)


def test_too_little_space_is_told_before_anything_is_written(models: Shop) -> None:
    with small_disk(models.backup_dir, "2m"):
        with pytest.raises(BackupError, match=r"too little space .* expected 9\.5 MiB|4\.8 MiB"):
            models.run("models")
        assert list(models.backup_dir.iterdir()) == []


def test_a_disk_that_fills_up_leaves_nothing_half_done(models: Shop) -> None:
    models.execute("pynomaly-api", "sh", "-c", "head -c 5000000 /dev/urandom > /srv/unmeasured")
    with small_disk(models.backup_dir, "2m"):
        with pytest.raises(BackupError, match="No space left on device") as raised:
            models.run("models", paths=("/srv/unmeasured",))
        assert raised.value.hint.startswith("df -h")
        assert models.store.backups() == []
        assert models.nothing_is_left()
        assert models.store.free_bytes() > 1_900_000
    assert models.execute("pynomaly-api", "echo", "free") == "free\n", "the engine is let go"


KILLED = """
import sys
from pathlib import Path
from ansible_collections.pynomaly.ops.plugins.module_utils._edges import engine_control
from tests.integration.test_files_backup import Shop
whole = engine_control.EngineControl.archive
def slow(engine, container_id, path):
    for number, chunk in enumerate(whole(engine, container_id, path)):
        yield chunk
        if number == 2:
            print("busy", flush=True)
            sys.stdin.read()
engine_control.EngineControl.archive = slow
shop = Shop(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), None, Path(sys.argv[4]))
from ansible_collections.pynomaly.ops.plugins.module_utils._edges import files_backup
files_backup._exists = lambda *_all: True
shop.run("models")
"""


def test_what_a_killed_run_left_is_removed_by_the_next(models: Shop) -> None:
    argv = [
        models.name,
        *(str(one) for one in (models.folder, models.backup_dir, models.state_dir)),
    ]
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, *argv],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"busy\n"
        writer.send_signal(signal.SIGKILL)
        assert writer.wait(10) == -signal.SIGKILL
    assert models.store.backups() == []
    (left,) = models.store.stagings()
    assert [one["temporary_state"] for one in models.states.left()] == ["backup_staging"]
    assert models.states.left()[0]["details"]["path"] == str(left)
    models.run("config")
    assert models.nothing_is_left()
    assert [one.kind for one in models.store.backups()] == ["config"]


MEASURED = """
import resource, sys
from pathlib import Path
from tests.integration.test_files_backup import Shop
shop = Shop(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), None, Path(sys.argv[4]))
assert shop.run("models", paths=(sys.argv[5],))["members"] == 1
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_models(models: Shop) -> None:
    used_kib = []
    for name, size in (("small", "1M"), ("large", "120M")):
        path = f"/srv/{name}"
        models.execute("pynomaly-api", "sh", "-c", f"head -c {size} /dev/zero > {path}")
        argv = [models.name, str(models.folder), str(models.backup_dir), str(models.state_dir)]
        done = subprocess.run(
            [sys.executable, "-c", MEASURED, *argv[:2], f"{argv[2]}-{name}", argv[3], path],
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        used_kib.append(int(done.stdout))
    assert used_kib[1] - used_kib[0] < 16 * 1024, used_kib


# Redis


def test_a_snapshot_of_redis_brings_its_keys_back(shop: Shop, tmp_path: Path) -> None:
    shop.ask("FLUSHALL")
    for number in range(0, 500, 10):
        shop.ask("SET", f"key:{number}", "v" * number)
    answer = shop.run("redis")
    shop.ask("SET", "later", "x")
    content = content_of(shop.newest("redis"))
    assert (content["keys"], content["checked_with"]) == (50, "redis-check-rdb")
    assert answer["size_bytes"] == (Path(answer["path"]) / "dump.rdb").stat().st_size
    assert (Path(answer["path"]) / "dump.rdb").stat().st_mode & 0o777 == 0o600
    restored = f"{shop.name}-restored"
    data = tmp_path / "data"
    data.mkdir(mode=0o777)
    (data / "dump.rdb").write_bytes((Path(answer["path"]) / "dump.rdb").read_bytes())
    docker("run", "--detach", "--name", restored, "--label", LABEL, "--network", "none",
           "--volume", f"{data}:/data", image("redis"))  # fmt: skip
    try:
        client = ("exec", restored, "redis-cli")
        wait_until("it has loaded", lambda: docker(*client, "ping").stdout == "PONG\n")
        assert docker(*client, "dbsize").stdout.strip() == "50"
        assert docker(*client, "strlen", "key:490").stdout.strip() == "490"
    finally:
        docker("rm", "--force", "--volumes", restored)
    assert shop.nothing_is_left()


def test_two_snapshots_within_a_second_are_two(shop: Shop) -> None:
    shop.ask("SAVE")
    shop.ask("SET", "fresh", "1")
    shop.run("redis", id=f"{shop.name}-20260101T000000Z")
    shop.ask("SET", "fresher", "1")
    shop.run("redis", id=f"{shop.name}-20260101T000001Z")
    newest, older = shop.store.backups(["redis"])
    assert content_of(newest)["keys"] == content_of(older)["keys"] + 1
    assert content_of(newest)["saved_at"] > content_of(older)["saved_at"]


def test_a_snapshot_that_fails_is_no_backup(shop: Shop) -> None:
    shop.ask("SET", "a", "1")
    # The server runs as redis, which cannot write there now.
    shop.execute("redis-cluster", "sh", "-c", "chown root /data && chmod 755 /data")
    try:
        with pytest.raises(BackupError, match="BGSAVE failed: rdb_last_bgsave_status is err"):
            shop.run("redis")
    finally:
        shop.execute("redis-cluster", "sh", "-c", "chown redis /data")
    assert shop.store.backups() == []
    assert shop.nothing_is_left()
    assert shop.run("redis")["made"], "and once the disk is right again, it is one"


def test_a_copy_that_is_damaged_is_no_backup(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.ask("SET", "a", "v" * 2000)
    really = archive.extract_one

    def torn(chunks: Iterator[bytes], target: Path, deadline: Deadline) -> bytes:
        head = really(chunks, target, deadline)
        data = bytearray(target.read_bytes())
        data[-20] ^= 1
        target.write_bytes(data)
        return head

    monkeypatch.setattr(archive, "extract_one", torn)
    with pytest.raises(BackupError, match=r"redis-check-rdb finds the snapshot of .* damaged"):
        shop.run("redis")
    assert shop.store.backups() == []
    assert shop.nothing_is_left()


def test_an_image_without_the_checker_is_told_in_the_manifest(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files_backup, "_CHECKER", "redis-check-nothing")
    shop.run("redis")
    assert content_of(shop.newest("redis"))["checked_with"] == ""


def test_a_wrong_password_is_told_and_not_repeated(shop: Shop) -> None:
    with pytest.raises(BackupError, match="lets nobody in: WRONGPASS") as raised:
        shop.run("redis", redis_password="canary-wrong")
    assert "canary-wrong" not in f"{raised.value} {raised.value.hint}"
    assert not shop.backup_dir.exists()


def test_a_stopped_redis_is_told(shop: Shop) -> None:
    name = shop.container("redis-cluster").name
    docker("stop", "--time", "1", name)
    try:
        with pytest.raises(BackupError, match=r"is exited .* expected running"):
            shop.run("redis")
    finally:
        docker("start", name)
        wait_until("Redis answers", shop.answers)
