# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The configuration of a real project, brought back, and left alone where that would do harm."""

from __future__ import annotations

import io
import json
import os
import signal
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._backup import (
    Backup,
    BackupError,
    Manifest,
    new_id,
    select,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges import (
    config_restore,
    files_backup,
    resume,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.backup_store import (
    BackupStore,
    utc_now,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.docker import EngineError
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.engine_control import (
    EngineControl,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.operation_store import (
    OperationStore,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.temporary_states import (
    TemporaryStates,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._operation import RunIdentity
from ansible_collections.pynomaly.ops.plugins.module_utils._utc import utc_text

from .conftest import LABEL, docker, image

pytestmark = pytest.mark.usefixtures("compose_plugin")

SECRET = "canary-config-77c1"
COMPOSE = """\
services:
  nginx:
    image: NGINX
    volumes: ["./config/nginx:/etc/nginx/conf.d:ro"]
    environment: {API_TOKEN: "${TOKEN}"}
    labels: [LABEL]
  settings:
    image: NGINX
    entrypoint: ["sleep", "infinity"]
    init: true
    environment: {GREETING: "hello"}
    labels: [LABEL]
  still:
    image: NGINX
    entrypoint: ["sleep", "infinity"]
    init: true
    labels: [LABEL]
networks:
  default: {labels: [LABEL]}
"""
SITE = "server { listen 80; location / { return 200 'first\\n'; } }\n"


@dataclass
class Shop:
    """A running project, its backups and its journal."""

    name: str
    folder: Path
    root: Path
    engine: EngineControl

    @property
    def compose_file(self) -> Path:
        return self.folder / "docker-compose.yml"

    @property
    def site(self) -> Path:
        return self.folder / "config" / "nginx" / "site.conf"

    @property
    def store(self) -> BackupStore:
        return BackupStore(str(self.root / "backups"), self.name)

    @property
    def states(self) -> TemporaryStates:
        return TemporaryStates(
            OperationStore(str(self.root / "state")),
            RunIdentity("run", "tester", "here"),
            "restore_config",
            self.name,
        )

    @property
    def settings(self) -> config_restore.ConfigRestore:
        return config_restore.ConfigRestore(
            project=self.name,
            backup_dir=str(self.root / "backups"),
            work_dir=str(self.root / "work"),
            healthy_timeout_seconds=20,
        )

    def compose(self, *arguments: str) -> None:
        docker(
            *("compose", "--project-name", self.name, "--project-directory", str(self.folder)),
            *("--file", str(self.compose_file), *arguments),
            timeout_seconds=120,
        )

    def back_up(self) -> Backup:
        made = files_backup.run(
            files_backup.FilesBackupSettings(self.name, "config", str(self.store.directory)),
            self.states,
        )
        return select(self.store.backups(), made["id"], "config")

    def restore(self, **options: Any) -> dict[str, Any]:
        return config_restore.run(self.settings, self.engine, self.states, **options)

    def resume(self) -> dict[str, Any]:
        settings = resume.ResumeSettings(self.name, str(self.store.directory))
        states = self.states
        return resume.run(settings, EngineControl(), states.store, states.identity)

    def ids(self) -> dict[str, tuple[str, str]]:
        """Container id and start by service."""
        listed = docker(
            "ps", "-aq", "--filter", f"label=com.docker.compose.project={self.name}"
        ).stdout.split()
        found = {}
        for one in json.loads(docker("inspect", *listed).stdout):
            service = one["Config"]["Labels"]["com.docker.compose.service"]
            found[service] = (one["Id"], one["State"]["StartedAt"])
        return found

    def served(self) -> str:
        done = docker("exec", f"{self.name}-nginx-1", "curl", "-fsS", "http://127.0.0.1/")
        return done.stdout.strip()

    def files(self) -> dict[str, bytes]:
        return {
            path.relative_to(self.folder).as_posix(): path.read_bytes()
            for path in sorted(self.folder.rglob("*"))
            if path.is_file()
        }


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    folder = tmp_path / "shop"
    (folder / "config" / "nginx").mkdir(parents=True)
    one = Shop(f"inttest-{os.getpid()}-{time.time_ns() % 10**8}", folder, tmp_path, EngineControl())
    text = COMPOSE.replace("NGINX", image("nginx")).replace("LABEL", LABEL)
    one.compose_file.write_text(text)
    (folder / ".env").write_text(f"TOKEN={SECRET}\n")
    (folder / ".env").chmod(0o600)
    one.site.write_text(SITE)
    try:
        one.compose("up", "--detach")
        yield one
    finally:
        one.compose_file.write_text(text)
        one.compose("down", "--volumes", "--remove-orphans", "--timeout", "0")


def test_what_was_changed_comes_back_and_only_that_is_touched(shop: Shop) -> None:
    before = shop.files()
    shop.back_up()
    shop.compose_file.write_text(shop.compose_file.read_text().replace("hello", "goodbye"))
    shop.site.write_text(SITE.replace("first", "second"))
    (shop.folder / ".env").write_text("TOKEN=another\n")
    (shop.folder / "notes.txt").write_text("mine\n")
    shop.compose("up", "--detach")
    shop.compose("restart", "nginx")
    assert shop.served() == "second"
    ids = shop.ids()

    answer = shop.restore()
    assert shop.files() == {**before, "notes.txt": b"mine\n"}
    assert (shop.folder / ".env").stat().st_mode & 0o777 == 0o600
    assert sorted(Path(path).name for path in answer["replaced"]) == [
        ".env",
        "docker-compose.yml",
        "site.conf",
    ]
    assert answer["restarted"] == ["nginx", "settings"]
    assert shop.served() == "first"
    after = shop.ids()
    assert after["still"] == ids["still"]
    assert after["settings"][0] != ids["settings"][0]
    told = json.dumps(answer)
    assert SECRET not in told
    assert "another" not in told
    assert "goodbye" in told
    assert shop.states.left() == []

    again = shop.restore()
    assert again["changed"] is False
    assert shop.ids() == after


def test_check_mode_changes_nothing(shop: Shop) -> None:
    shop.back_up()
    shop.site.write_text(SITE.replace("first", "second"))
    files, ids = shop.files(), shop.ids()
    answer = shop.restore(check_mode=True)
    assert answer["replaced"] == [str(shop.site)]
    assert "second" in answer["diff"][0]["before"]
    assert "first" in answer["diff"][0]["after"]
    assert (shop.files(), shop.ids()) == (files, ids)


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ("site", "nginx refuses the backup's configuration: .*unknown directive"),
        ("compose", "the backup's Compose files do not parse"),
    ],
)
def test_a_backup_that_the_programs_refuse_touches_nothing(
    shop: Shop, broken: str, words: str
) -> None:
    path = shop.site if broken == "site" else shop.compose_file
    good = path.read_text()
    path.write_text(good + "\nnonsense here;\n")
    backup = shop.back_up() if broken == "site" else None
    if backup is None:
        path.write_text(good)
        hand_made(shop, {"project/docker-compose.yml": (good + "\nnonsense here;\n").encode()})
    path.write_text(good)
    files, ids = shop.files(), shop.ids()
    with pytest.raises(BackupError, match=words):
        shop.restore()
    assert (shop.files(), shop.ids()) == (files, ids)
    assert shop.states.left() == []


def test_where_the_project_does_not_get_well_the_old_configuration_is_back(shop: Shop) -> None:
    good = shop.compose_file.read_text()
    ill = good.replace(
        'environment: {GREETING: "hello"}',
        'healthcheck: {test: ["CMD", "false"], interval: 1s, retries: 1}',
    )
    assert ill != good
    hand_made(shop, {"project/docker-compose.yml": ill.encode()})
    files = shop.files()
    with pytest.raises(BackupError, match=r"was taken back.*settings-1 is unhealthy"):
        shop.restore()
    assert shop.files() == files
    assert shop.served() == "first"
    assert set(shop.ids()) == {"nginx", "settings", "still"}
    assert shop.states.left() == []


@pytest.mark.parametrize("name", ["../../etc/x", "/etc/x", "project/../../x", "host/etc/x"])
def test_an_archive_that_leads_out_writes_nothing(shop: Shop, name: str) -> None:
    hand_made(shop, {"project/fine.txt": b"fine", name: b"hostile"})
    files = shop.files()
    with pytest.raises(BackupError, match="cannot be unpacked"):
        shop.restore()
    assert shop.files() == files
    assert not Path("/etc/x").exists()
    assert not (shop.root / "x").exists()


def test_a_link_in_the_place_of_a_file_is_not_followed(shop: Shop) -> None:
    shop.back_up()
    elsewhere = shop.root / "elsewhere.conf"
    elsewhere.write_text(SITE)
    shop.site.unlink()
    shop.site.symlink_to(elsewhere)
    with pytest.raises(BackupError, match="symbolic link"):
        shop.restore()
    assert elsewhere.read_text() == SITE
    assert shop.site.is_symlink()


class FailingOnce(EngineControl):
    """An engine that does not answer once, when a container is to be restarted."""

    failed = False

    def restart(self, container_id: str, timeout_seconds: int) -> None:
        if not self.failed:
            self.failed = True
            raise EngineError("the engine did not answer")
        super().restart(container_id, timeout_seconds)


def test_an_engine_that_fails_in_between_gets_the_old_configuration_back(shop: Shop) -> None:
    shop.back_up()
    shop.site.write_text(SITE.replace("first", "second"))
    shop.compose("restart", "nginx")
    files = shop.files()
    shop.engine = FailingOnce()
    with pytest.raises(BackupError, match=r"was taken back.*the engine did not answer"):
        shop.restore()
    assert shop.files() == files
    assert shop.served() == "second"
    assert shop.states.left() == []


def test_what_a_run_that_died_early_left_is_gone_with_the_next(shop: Shop) -> None:
    work = Path(shop.settings.work_dir)
    own, foreign = work / f"{shop.name}-20260101T000000Z", work / "shop-two-20260101T000000Z"
    for folder in (own, foreign):
        (folder / "staged").mkdir(parents=True)
    shop.back_up()
    shop.restore()
    assert not own.exists()
    assert foreign.exists()


@pytest.mark.parametrize("deadly", ["keep", "swap", "up", "done"])
def test_killed_at_any_step_it_can_be_put_back_and_begun_again(shop: Shop, deadly: str) -> None:
    shop.back_up()
    shop.compose_file.write_text(shop.compose_file.read_text().replace("hello", "goodbye"))
    shop.site.write_text(SITE.replace("first", "second"))
    shop.compose("up", "--detach")
    shop.compose("restart", "nginx")
    files = shop.files()
    child = os.fork()
    if not child:

        def step(name: str) -> None:
            if name == deadly:
                os.kill(os.getpid(), signal.SIGKILL)

        shop.restore(step=step)
        os._exit(0)
    _pid, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    (left,) = shop.states.left()
    assert left["temporary_state"] == config_restore.STATE
    folder = Path(left["details"]["folder"])

    with pytest.raises(BackupError, match="was begun and not finished") as refused:
        shop.restore()
    assert "resume" in refused.value.hint
    first = shop.resume()
    assert first["changed"] and not first["failed"]
    assert shop.files() == files
    assert shop.served() == "second"
    assert shop.states.left() == []
    assert not shop.resume()["changed"]
    shop.restore()
    assert shop.served() == "first"
    assert not folder.exists()


def hand_made(shop: Shop, members: dict[str, bytes]) -> Backup:
    """A whole backup by its checksums, with an archive of our own."""
    moment = utc_now()
    identifier = new_id(shop.name, moment)
    staging = shop.store.stage("config", identifier)
    with tarfile.open(staging / "archive.tar.gz", "w:gz") as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            member.mode = 0o644
            archive.addfile(member, io.BytesIO(data))
    content = {
        "working_dir": str(shop.folder),
        "config_files": [str(shop.compose_file)],
        "environment_files": [],
    }
    manifest = Manifest(identifier, "config", shop.name, utc_text(moment), 1.0, (), content)
    return shop.store.publish(staging, manifest)
