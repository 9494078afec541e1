# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What evidence is gathered from: the engine, each container, and the host. All of it is read from
outside of the containers."""

from __future__ import annotations

import contextlib
import json
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Optional

from ansible_collections.pynomaly.ops.plugins.module_utils._context import (
    CheckSettings,
    Container,
    Stack,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges import processes
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.command import (
    CommandError,
    run_command,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.docker import EngineError
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.evidence_bundle import (
    Files,
    hash_file,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.evidence_engine import (
    EvidenceEngine,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._evidence import (
    ROLE_STATEMENT,
    Peer,
    safe_name,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._sockets import Socket, peers

#: What is written at once of a log.
_BLOCK_BYTES = 256 * 1024
#: The engine's time in front of each line.
_STAMP_BYTES = 30
#: Of a log, when there is little time: the newest lines.
_QUICK_TAIL_LINES = 20_000
#: Of a file of the host's that may be large, such as auth.log, the newest part.
_TAIL_BYTES = 16 * 1024 * 1024
_SMALL_FILE_BYTES = 1024 * 1024
_COMMAND_SECONDS = 20.0
_OF_SYSTEMD = ("loginctl", "systemctl", "timedatectl", "journalctl")

_CRON = ("/etc/crontab", "/etc/anacrontab", "/etc/cron.allow", "/etc/cron.deny")
_CRON_FOLDERS = (
    "/etc/cron.d",
    "/etc/cron.hourly",
    "/etc/cron.daily",
    "/etc/cron.weekly",
    "/etc/cron.monthly",
    "/var/spool/cron",
    "/var/spool/cron/crontabs",
    "/var/spool/cron/atjobs",
)
_USER_FILES = ("/etc/passwd", "/etc/group", "/etc/sudoers")
_AUTH_LOGS = ("/var/log/auth.log", "/var/log/secure")


class SkipSource(Exception):  # noqa: N818  # it is no error
    """There is nothing of the kind here; the text says what was looked for."""


@dataclass(frozen=True)
class Source:
    """``run`` writes into the files that it is given, and has so many seconds for it."""

    name: str
    command: str
    run: Callable[[Files, float], None]
    is_quick: bool = True


@dataclass
class Scene:
    """What is looked at. What sources find for the report is put into ``found_peers`` and
    ``log_files``."""

    engine: EvidenceEngine
    stack: Stack
    services: Sequence[str]
    since: float
    settings: CheckSettings = field(default_factory=CheckSettings)
    found_peers: list[Peer] = field(default_factory=list)
    log_files: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def containers(self) -> list[Container]:
        """Those that were asked for."""
        return [
            container
            for service, members in sorted(self.stack.containers.items())
            if not self.services or service in self.services
            for container in members
        ]

    def component_of(self, service: str) -> str:
        named = (one for one, name in self.stack.components.items() if name == service)
        return next(named, "")


# Containers


def container_sources(scene: Scene) -> list[Source]:
    """What vanishes first, of every container, then what stays."""
    vanishing, staying = [], []
    for container in scene.containers:
        folder = f"containers/{safe_name(container.name)}"
        name = container.name
        vanishing += [
            Source(
                f"{folder}/processes",
                f"/proc of the host: processes of {name}",
                partial(_processes, container, folder),
            ),
            Source(
                f"{folder}/connections",
                f"/proc/PID/net of the host: sockets of {name}",
                partial(_connections, scene, container, folder),
            ),
            Source(f"{folder}/top", f"docker top {name}", partial(_top, scene, container, folder)),
        ]
        log = f"{safe_name(container.service)}.{container.number}"
        staying += [
            Source(
                f"{folder}/inspect",
                f"docker inspect {name}; docker image inspect {container.image}",
                partial(_inspect, scene, container, folder),
            ),
            Source(
                f"logs/{log}",
                f"docker logs --timestamps --since {scene.since:.3f} {name}",
                partial(_log, scene, container, f"logs/{log}.log"),
            ),
            Source(
                f"{folder}/diff",
                f"docker diff {name}",
                partial(_diff, scene, container, folder),
                is_quick=False,
            ),
            Source(
                f"{folder}/executables",
                f"sha256sum /proc/PID/exe of {name}",
                partial(_executables, container, folder),
                is_quick=False,
            ),
        ]
    return [*vanishing, *staying]


def _running(container: Container) -> None:
    if not container.running or not container.pid:
        raise SkipSource(f"{container.name} is {container.state}")


def _processes(container: Container, folder: str, files: Files, _seconds: float) -> None:
    _running(container)
    files.document(
        f"{folder}/processes.json", processes.describe(processes.container_pids(container))
    )


def _connections(
    scene: Scene, container: Container, folder: str, files: Files, _seconds: float
) -> None:
    _running(container)
    if "host" in container.networks:
        raise SkipSource(f"{container.name} has the host's network: host/connections.json")
    listed, told = processes.sockets_of(processes.container_pids(container))
    files.document(f"{folder}/connections.json", told)
    _note_peers(scene, container.name, listed)


def _note_peers(scene: Scene, where: str, sockets: Iterable[Socket]) -> None:
    own = {
        address
        for members in scene.stack.containers.values()
        for container in members
        for address in container.addresses
    }
    scene.found_peers.extend(
        Peer(where, address, port, count)
        for address, port, count in peers(sockets)
        if address not in own
    )


def _top(scene: Scene, container: Container, folder: str, files: Files, _seconds: float) -> None:
    _running(container)
    answer = scene.engine.top(container.id)
    rows = [answer["Titles"], *(answer.get("Processes") or ())]
    files.text(f"{folder}/top.txt", "".join("\t".join(row) + "\n" for row in rows))


def _inspect(
    scene: Scene, container: Container, folder: str, files: Files, _seconds: float
) -> None:
    data = scene.engine.raw_inspect(container.id)
    files.document(f"{folder}/inspect.json", data)
    image = scene.engine.image(str(data["Image"]))
    if image is None:
        raise EngineError(f"the image {data['Image']} of {container.name} is gone")
    files.document(f"{folder}/image.json", image)


def _log(scene: Scene, container: Container, path: str, files: Files, seconds: float) -> None:
    component = scene.component_of(container.service)
    sink = files.open(path, keep_newest=True)
    scene.log_files[path] = {
        "file": Path(path).name,
        "service": container.service,
        "component": component,
        "container": container.name,
        "container_id": container.id,
    }
    roles = None
    tail = _QUICK_TAIL_LINES if files.is_quick else None
    block: list[bytes] = []
    size = count = 0
    last = b""
    try:
        for line in scene.engine.stamped_lines(container.id, scene.since, seconds * 0.7, tail):
            block.append(line)
            last = line[:_STAMP_BYTES]
            size += len(line)
            count += 1
            if component == "postgres" and ROLE_STATEMENT.search(line):
                roles = roles or files.open(f"postgres/role_changes.{container.number}.log")
                roles.write(line)
            if size >= _BLOCK_BYTES:
                sink.write(b"".join(block))
                block, size = [], 0
        if tail is not None and count >= tail:
            sink.cut(f"only the last {tail} lines were read")
    except TimeoutError:
        sink.write(b"".join(block))
        block = _newest(scene, container, last, seconds * 0.15)
        until = block[0][:_STAMP_BYTES].decode("ascii", "replace") if block else "the end"
        sink.cut(f"there was no time for the lines between {last.decode()} and {until}")
    sink.write(b"".join(block))


def _newest(scene: Scene, container: Container, after: bytes, seconds: float) -> list[bytes]:
    """The last lines of a log that could not be read to its end in time: they matter most."""
    lines = scene.engine.stamped_lines(container.id, scene.since, seconds, _QUICK_TAIL_LINES)
    found = []
    with contextlib.suppress(TimeoutError):
        for line in lines:
            if line[:_STAMP_BYTES] > after:
                found.append(line)
    return found


def _diff(scene: Scene, container: Container, folder: str, files: Files, _seconds: float) -> None:
    changes = scene.engine.changes(container.id)
    text = "".join(f"{kind} {path}\n" for kind, path in changes)
    files.text(f"{folder}/diff.txt", text or f"nothing in {container.name} differs\n")


def _executables(container: Container, folder: str, files: Files, _seconds: float) -> None:
    _running(container)
    files.document(
        f"{folder}/executables.json", processes.executables(processes.container_pids(container))
    )


# The engine


def engine_sources(scene: Scene) -> list[Source]:
    engine = scene.engine
    return [
        Source(
            "docker/containers",
            "docker ps --all --no-trunc",
            lambda files, _seconds: files.document(
                "docker/containers.json", engine.all_containers()
            ),
        ),
        Source(
            "docker/networks",
            "docker network ls",
            lambda files, _seconds: files.document("docker/networks.json", engine.all_networks()),
        ),
        Source("docker/events", "docker events", partial(_events, scene)),
        Source(
            "docker/images",
            "docker images --digests",
            lambda files, _seconds: files.document("docker/images.json", engine.all_images()),
            is_quick=False,
        ),
        Source(
            "docker/engine",
            "docker info; docker version",
            lambda files, _seconds: files.document(
                "docker/engine.json", {"info": engine.info(), "version": engine.version()}
            ),
            is_quick=False,
        ),
    ]


def _events(scene: Scene, files: Files, _seconds: float) -> None:
    events = scene.engine.events(scene.since, time.time())
    text = "".join(json.dumps(one, sort_keys=True) + "\n" for one in events)
    files.text("docker/events.jsonl", text or "{}\n")


# The host


def host_sources(scene: Optional[Scene], since: float) -> list[Source]:
    """``scene`` is C{None} where no engine answers."""
    after = f"@{since:.0f}"
    return [
        Source(
            "host/connections",
            "/proc/net of the host",
            partial(_host_connections, scene),
        ),
        _commands("host/conntrack", ["conntrack", "-L", "-o", "extended"]),
        _commands("host/nftables", ["nft", "-a", "list", "ruleset"]),
        _commands("host/iptables", ["iptables-save"], ["ip6tables-save"]),
        _commands(
            "host/logged_in",
            ["loginctl", "list-sessions", "--no-legend", "--no-pager"],
            ["who", "-a", "-H"],
            ["w", "-f"],
        ),
        Source("host/processes", "/proc of the host", _host_processes),
        _commands(
            "host/logins",
            ["last", "-F", "-w", "-n", "1000"],
            ["lastb", "-F", "-w", "-n", "1000"],
            ["wtmpdb", "last", "-n", "1000"],
            is_quick=False,
        ),
        _commands(
            "host/ssh_log",
            [*_journal(after), "-u", "ssh", "-u", "sshd", "-t", "sshd", "-t", "sshd-session"],
            is_quick=False,
        ),
        Source(
            "host/auth_log",
            f"the newest part of {' or '.join(_AUTH_LOGS)}",
            _auth_logs,
            is_quick=False,
        ),
        _commands("host/docker_log", [*_journal(after), "-u", "docker"], is_quick=False),
        _commands("host/kernel_log", [*_journal(after), "-k"], is_quick=False),
        Source("host/cron", "crontabs and cron's folders", _cron, is_quick=False),
        _commands(
            "host/timers",
            ["systemctl", "list-timers", "--all", "--no-pager"],
            ["systemctl", "list-unit-files", "--state=enabled", "--no-pager"],
            is_quick=False,
        ),
        Source(
            "host/users",
            f"{', '.join(_USER_FILES)}, /etc/sudoers.d, authorized_keys",
            _users,
            is_quick=False,
        ),
        _commands(
            "host/network",
            ["ip", "address"],
            ["ip", "route", "show", "table", "all"],
            ["ip", "neigh"],
            is_quick=False,
        ),
        _commands(
            "host/system",
            ["uname", "-a"],
            ["uptime"],
            ["timedatectl", "status", "--no-pager"],
            ["cat", "/proc/modules"],
            ["cat", "/proc/mounts"],
            is_quick=False,
        ),
    ]


def _journal(after: str) -> list[str]:
    return [
        *("journalctl", "--no-pager", "--quiet", "--utc", "-o", "short-iso-precise"),
        *("--since", after, "-n", "200000"),
    ]


def _commands(name: str, *commands: Sequence[str], is_quick: bool = True) -> Source:
    """Programs whose output goes into one text file, each under what was run."""
    told = "; ".join(" ".join(argv) for argv in commands)
    return Source(name, told, partial(_run_commands, name, commands), is_quick)


def _run_commands(
    name: str, commands: Sequence[Sequence[str]], files: Files, seconds: float
) -> None:
    deadline = time.monotonic() + seconds * 0.9
    sink = None
    answered = False
    problems: list[str] = []
    missing: list[str] = []
    for argv in commands:
        if argv[0] in _OF_SYSTEMD and not Path("/run/systemd/system").is_dir():
            missing.append(f"{argv[0]}: systemd does not run here")
            continue
        left = max(0.1, min(_COMMAND_SECONDS, deadline - time.monotonic()))
        try:
            result = run_command(argv, left, max_bytes=files.max_bytes)
        except CommandError as error:
            (missing if error.missing else problems).append(str(error))
            continue
        sink = sink or files.open(f"{name}.txt")
        sink.write(f"$ {' '.join(argv)}\n{_ended(result.stdout)}{_ended(result.stderr)}")
        answered = answered or not result.exit_code
        if result.exit_code:
            sink.write(f"(exit code {result.exit_code})\n")
            problems.append(f"{argv[0]} ended with {result.exit_code}: {_first(result.stderr)}")
        if result.truncated:
            sink.cut(f"only the first {files.max_bytes} bytes of {argv[0]}'s output are kept")
    if answered:  # what the others lack is in the file
        return
    if problems:
        raise OSError("; ".join([*problems, *missing]))
    raise SkipSource("; ".join(missing))


def _ended(text: str) -> str:
    return text if not text or text.endswith("\n") else text + "\n"


def _first(text: str) -> str:
    return next(iter(text.strip().splitlines()), "it said nothing")


def _host_connections(scene: Optional[Scene], files: Files, _seconds: float) -> None:
    listed, told = processes.sockets_of(processes.host_pids())
    files.document("host/connections.json", told)
    listening = [
        f"{one.protocol}\t{one.local_address}\t{one.local_port}\tuid {one.uid}\n"
        for one in sorted(listed, key=lambda one: (one.protocol, one.local_port))
        if one.is_listening
    ]
    files.text("host/listening.txt", "".join(listening) or "nothing listens\n")
    if scene is not None:
        _note_peers(scene, "host", listed)


def _host_processes(files: Files, _seconds: float) -> None:
    """A line each, those of containers last, so that one which makes its reader wait takes none of
    the host's with it."""
    sink = files.open("host/processes.jsonl")
    own = processes.host_pids()
    for pid in [*own, *sorted(set(processes.all_pids()) - set(own))]:
        for one in processes.describe([pid]):
            sink.line(one)


def _auth_logs(files: Files, _seconds: float) -> None:
    found = [Path(name) for name in _AUTH_LOGS if Path(name).is_file()]
    if not found:
        raise SkipSource(f"there is no {' and no '.join(_AUTH_LOGS)}")
    for path in found:
        sink = files.open(f"host/{safe_name(path.name)}", keep_newest=True)
        with path.open("rb") as file:
            size = path.stat().st_size
            if size > _TAIL_BYTES:
                file.seek(size - _TAIL_BYTES)
                file.readline()
                sink.cut(f"only the newest {_TAIL_BYTES} of {size} bytes are kept")
            while True:
                block = file.read(_BLOCK_BYTES)
                if not block:
                    break
                sink.write(block)


def _cron(files: Files, _seconds: float) -> None:
    paths = [Path(name) for name in _CRON]
    for folder in _CRON_FOLDERS:
        with contextlib.suppress(OSError):
            paths += sorted(Path(folder).iterdir())
    files.text("host/cron.txt", "".join(_shown(paths)) or "no crontab was found\n")


def _users(files: Files, _seconds: float) -> None:
    paths = [Path(name) for name in _USER_FILES]
    with contextlib.suppress(OSError):
        paths += sorted(Path("/etc/sudoers.d").iterdir())
    homes = set()
    for line in Path("/etc/passwd").read_text("utf-8", errors="replace").splitlines():
        fields = line.split(":")
        if len(fields) > 5 and fields[5].startswith("/"):
            homes.add(fields[5])
    for home in sorted(homes):
        paths += [Path(home, ".ssh", name) for name in ("authorized_keys", "authorized_keys2")]
    files.text("host/users.txt", "".join(_shown(paths)))


def _shown(paths: Iterable[Path]) -> Iterator[str]:
    """Files with what is known of them: owner, mode, times, hash."""
    for path in paths:
        try:
            status = path.lstat()
        except OSError:
            continue
        about = (
            f"==> {path} ({stat.filemode(status.st_mode)} {status.st_uid}:{status.st_gid} "
            f"{status.st_size} bytes, modified {_utc(status.st_mtime)}, changed "
            f"{_utc(status.st_ctime)}"
        )
        if not stat.S_ISREG(status.st_mode) or status.st_size > _SMALL_FILE_BYTES:
            yield f"{about})\n"
            continue
        try:
            digest = hash_file(path)[1]
            text = path.read_text("utf-8", errors="replace")
        except OSError as error:
            yield f"{about}, cannot be read: {error.strerror})\n"
            continue
        yield f"{about}, SHA-256 {digest})\n{_ended(text)}"


def _utc(moment: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))
