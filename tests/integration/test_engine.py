# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The engine's edge against a real engine, and against sockets that behave badly."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._context import (
    CheckSettings,
    ComposeService,
    Container,
    Stack,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges import containers, logs
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.docker import (
    Engine,
    EngineError,
    EngineUnavailable,
    check_socket,
    list_project,
    side_by_side,
)

from .conftest import LABEL, Project, docker, image, judged, wait_until

SOCKET = "/var/run/docker.sock"
SECRET = "canary-engine-7c/2@y"


def start(project: Project, service: str, script: str, *options: str) -> Container:
    """A container that runs a shell script."""
    return project.start(
        service, "redis", command=["-c", script], options=["--entrypoint", "sh", *options]
    )


def state(project: Project, service: str) -> str:
    return project.container(service).state


@pytest.fixture(scope="module")
def sleeper(project: Project) -> Container:
    return start(
        project,
        "sleeper",
        "mkdir /f && printf hello > /f/file && ln -s /f/file /f/link && ln -s link /f/second;"
        "ln -s /f/loop /f/loop; exec sleep 600",
        *("--env", f"SECRET={SECRET}", "--publish", "127.0.0.1::80", "--memory", "64m"),
    )


# What is there


def test_a_container_is_described(project: Project, sleeper: Container) -> None:
    assert sleeper.state == "running"
    assert sleeper.environment["SECRET"] == SECRET
    assert SECRET not in repr(sleeper)
    assert sleeper.memory_limit_bytes == 64 * 1024 * 1024
    assert sleeper.log_driver == "json-file"
    assert len(sleeper.addresses) == 1
    (port,) = sleeper.ports
    assert (port.host_ip, port.container_port) == ("127.0.0.1", 80)
    assert sleeper.networks == {project.name: sleeper.addresses[0]}
    assert sleeper.pid > 0


def test_stopped_ones_are_listed_and_one_off_ones_are_not(project: Project, engine: Engine) -> None:
    start(project, "ended", "exit 7")
    wait_until("it ended", lambda: state(project, "ended") == "exited")
    project.names.append(f"{project.name}-oneoff-1")
    docker(
        *("run", "--detach", "--name", f"{project.name}-oneoff-1", "--label", LABEL),
        *("--label", f"com.docker.compose.project={project.name}"),
        *("--label", "com.docker.compose.service=oneoff"),
        *("--label", "com.docker.compose.oneoff=True"),
        *("--entrypoint", "sleep", image("redis"), "600"),
    )
    listed = {one["Id"] for one in engine.summaries(project.name)}
    assert {one["Id"] for one in list_project(project.name, 5)} == listed
    assert list_project("no-such-project", 5) == []
    assert len(listed) > len(engine.list_project_containers(project.name))
    found = {one.service: one for one in engine.list_project_containers(project.name)}
    assert found["ended"].exit_code == 7
    assert "oneoff" not in found


@pytest.mark.usefixtures("sleeper")
def test_projects_are_counted(project: Project, engine: Engine) -> None:
    assert engine.projects()[project.name] >= 1
    assert engine.list_project_containers("no-such-project") == []


def test_a_container_that_is_gone_by_now_is_left_out(engine: Engine, sleeper: Container) -> None:
    gone = {"Id": "0" * 64, "Names": ["/gone"], "Labels": {}}
    here = {"Id": sleeper.id, "Names": [f"/{sleeper.name}"], "Labels": {}}
    assert [one.id for one in engine.inspect([gone, here])] == [sleeper.id]


def test_images(engine: Engine, sleeper: Container) -> None:
    assert engine.image_id(image("redis")) == sleeper.image_id
    assert engine.image_id("pynomaly-lab/no-such-image:1") == ""
    assert engine.image("pynomaly-lab/no-such-image:1") is None
    assert engine.image_ids([image("redis"), "no-such-image:1"]) == {
        image("redis"): sleeper.image_id,
        "no-such-image:1": "",
    }


def test_networks_and_volumes(project: Project, engine: Engine) -> None:
    assert project.name in engine.network_labels()
    docker("volume", "create", "--label", "x=y", project.name)
    try:
        assert engine.volume_labels()[project.name] == {"x": "y"}
    finally:
        docker("volume", "rm", project.name)


def test_the_engine_describes_itself(engine: Engine) -> None:
    assert engine.version()["Version"]
    assert engine.info()["ServerVersion"] == engine.version()["Version"]


def test_one_engine_serves_many_threads(engine: Engine, sleeper: Container) -> None:
    answers = side_by_side(lambda _number: engine.image_id(image("redis")), list(range(40)), 20)
    assert {answer for _number, answer in answers} == {sleeper.image_id}


# Commands inside


def test_a_command_inside(engine: Engine, sleeper: Container) -> None:
    code, output = engine.run(sleeper.id, ["sh", "-c", "echo out; echo err >&2; exit 3"], 10)
    assert code == 3
    assert sorted(output.split()) == ["err", "out"]


def test_arguments_are_no_shells_and_secrets_go_by_environment(
    engine: Engine, sleeper: Container
) -> None:
    assert engine.run(sleeper.id, ["echo", "$HOME; *"], 10) == (0, "$HOME; *\n")
    code, output = engine.run(
        sleeper.id, ["sh", "-c", 'echo "$PW"; id -u'], 10, environment={"PW": "x y"}, user="65534"
    )
    assert (code, output) == (0, "x y\n65534\n")


def test_output_is_capped(engine: Engine, sleeper: Container) -> None:
    argv = ["sh", "-c", "yes | head -c 1000000; exit 4"]
    code, output = engine.run(sleeper.id, argv, 20, max_bytes=1000)
    assert (code, len(output)) == (4, 1000)


def test_a_command_that_hangs_is_ended(engine: Engine, sleeper: Container) -> None:
    started = time.monotonic()
    with pytest.raises(EngineError, match="sleep did not finish within 1 s"):
        engine.run(sleeper.id, ["sleep", "4242"], 1)
    assert time.monotonic() - started < 4
    # Words that the script itself does not have, or it would find itself.
    script = "cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -c 'sleep 42''42' || true"
    wait_until(
        "it is gone", lambda: engine.run(sleeper.id, ["sh", "-c", script], 10)[1].strip() == "0"
    )


def test_a_command_that_is_not_there_and_a_container_that_does_not_run(
    engine: Engine, sleeper: Container, project: Project
) -> None:
    code, output = engine.run(sleeper.id, ["no-such-program"], 10)
    assert code in (126, 127)
    assert "no-such-program" in output
    ended = start(project, "idle", "exit 0")
    wait_until("it ended", lambda: state(project, "idle") == "exited")
    with pytest.raises(EngineError, match="is not running"):
        engine.run(ended.id, ["true"], 10)


# Files inside


def test_files_are_read_links_followed(engine: Engine, sleeper: Container) -> None:
    wait_until("it is written", lambda: engine.run(sleeper.id, ["ls", "/f/loop"], 5)[0] == 0)
    for name in ("file", "link", "second"):
        assert engine.read_file(sleeper.id, f"/f/{name}") == b"hello"
    assert engine.read_file(sleeper.id, "/f/file", max_bytes=5) == b"hello"


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/f/none", "(?i)could not find"),
        ("/f", "/f is not a file"),
        ("/f/loop", "too many"),
        ("/usr/bin/redis-server", "bytes, expected 65536 at most"),
    ],
)
def test_files_that_cannot_be_read(
    engine: Engine, sleeper: Container, path: str, words: str
) -> None:
    with pytest.raises(EngineError, match=words):
        engine.read_file(sleeper.id, path)


def test_a_file_of_a_container_that_does_not_run(project: Project, engine: Engine) -> None:
    ended = start(project, "writer", "printf kept > /kept")
    wait_until("it ended", lambda: state(project, "writer") == "exited")
    assert engine.read_file(ended.id, "/kept") == b"kept"


# Logs


def lines_of(
    engine: Engine, container: Container, max_bytes: int = 1 << 20, tail_lines: int = 400_000
) -> tuple[list[tuple[str, bytes]], str]:
    found = engine.logs(container.id, 3600, max_bytes, tail_lines=tail_lines)
    return list(found), found.truncated


def test_lines_and_their_streams(project: Project, engine: Engine) -> None:
    one = start(project, "talker", "echo one; echo two >&2; printf three")
    wait_until("it ended", lambda: state(project, "talker") == "exited")
    found, truncated = lines_of(engine, one)
    assert sorted(found) == [("stderr", b"two"), ("stdout", b"one"), ("stdout", b"three")]
    assert truncated == ""


def test_a_terminals_log(project: Project, engine: Engine) -> None:
    one = start(project, "terminal", "echo one; echo two >&2", "--tty")
    wait_until("it ended", lambda: state(project, "terminal") == "exited")
    assert lines_of(engine, one)[0] == [("stdout", b"one"), ("stdout", b"two")]


def test_only_the_window_is_read(project: Project, engine: Engine) -> None:
    one = start(project, "slow", "echo old; sleep 3; echo new; sleep 600")
    wait_until("both are there", lambda: len(lines_of(engine, one)[0]) == 2)
    assert [line for _stream, line in engine.logs(one.id, 2, 1 << 20)] == [b"new"]


def test_a_long_log_is_read_in_part_and_says_so(project: Project, engine: Engine) -> None:
    one = start(project, "chatter", "seq 1 30000")
    wait_until("it ended", lambda: state(project, "chatter") == "exited")
    assert len(lines_of(engine, one)[0]) == 30000
    newest, truncated = lines_of(engine, one, tail_lines=100)
    assert [line for _stream, line in newest] == [str(n).encode() for n in range(29901, 30001)]
    assert truncated == "only the last 100 lines were read"
    some, truncated = lines_of(engine, one, max_bytes=10000)
    assert 0 < len(some) < 30000
    assert truncated == "only 0 MiB were read"


def test_a_log_that_cannot_be_read(project: Project, engine: Engine) -> None:
    one = start(project, "mute", "echo x; sleep 600", "--log-driver", "none")
    with pytest.raises(EngineError, match="does not support reading") as refused:
        engine.logs(one.id, 60, 1000)
    assert refused.value.status_code is not None
    stack = Stack(project.name, containers={"mute": [one]})
    (entry,) = judged(logs.collectors(stack, CheckSettings(), engine)).values()
    assert entry["status"] == "skipped"
    assert "log driver none" in entry["message"]


def test_error_lines_are_counted(project: Project, engine: Engine) -> None:
    script = (
        f"echo ERROR:app:login with password={SECRET} failed; echo INFO:app:0 ERRORs found;"
        "for n in $(seq 20); do echo ERROR:app:row $n is broken >&2; done"
    )
    one = start(project, "unhappy", script)
    wait_until("it ended", lambda: state(project, "unhappy") == "exited")
    stack = Stack(project.name, containers={"unhappy": [one]})
    (entry,) = judged(logs.collectors(stack, CheckSettings(), engine), secrets=[SECRET]).values()
    assert (entry["status"], entry["value"]) == ("warning", 21)
    assert entry["detail"][0] == {
        "count": 20,
        "message": "row <n> is broken",
        "example": "ERROR:app:row 1 is broken",
    }


# Containers, broken for real


def container_results(
    project: Project, engine: Engine, service: str, replicas: int = 1, reference: str = ""
) -> dict[str, dict[str, Any]]:
    stack = Stack(
        project.name,
        containers={service: project.stack().containers.get(service, ())},
        services={service: ComposeService(service, replicas=replicas, image=reference)},
    )
    return judged(containers.collectors(stack, CheckSettings(), engine))


@pytest.mark.usefixtures("sleeper")
def test_a_healthy_container(project: Project, engine: Engine) -> None:
    found = container_results(project, engine, "sleeper")
    assert found["container.state"]["status"] == "ok"
    assert found["container.oom_kills"]["value"] == 0
    assert 0 < found["container.memory"]["value"] < 50
    assert found["container.image"]["status"] == "ok"
    assert found["container.health"]["status"] == "skipped"
    assert found["docker.engine"]["status"] == "ok"
    assert found["project.found"]["value"] == 1


@pytest.mark.usefixtures("sleeper")
def test_replicas_and_images(project: Project, engine: Engine) -> None:
    found = container_results(project, engine, "sleeper", replicas=2, reference="other:1")
    assert found["container.state"]["status"] == "critical"
    assert found["container.state"]["message"] == "1 of 2 running, the others are missing"
    assert found["container.image"]["status"] == "warning"


def test_killed_for_want_of_memory(project: Project, engine: Engine) -> None:
    """A child is killed and the container lives: only its control group knows."""
    start(
        project,
        "greedy",
        "(head -c 200000000 /dev/zero | tail -c 190000000 > /dev/null) & wait; exec sleep 600",
        *("--memory", "32m", "--memory-swap", "32m"),
    )
    wait_until(
        "a kill is counted",
        lambda: (
            (container_results(project, engine, "greedy")["container.oom_kills"]["value"] or 0) > 0
        ),
    )
    found = container_results(project, engine, "greedy")
    assert found["container.oom_kills"]["status"] == "critical"
    assert found["container.state"]["status"] == "ok"


def test_restarting_in_a_loop(project: Project, engine: Engine) -> None:
    start(project, "loop", "exit 5", "--restart", "always")
    wait_until("it went round", lambda: project.container("loop").restart_count > 2)
    assert container_results(project, engine, "loop")["container.restarts"]["status"] == "warning"
    # The engine waits twice as long each time: from the sixth on, longer than a look takes.
    wait_until("it waits long", lambda: project.container("loop").restart_count > 5)
    wait_until("it waits", lambda: state(project, "loop") == "restarting")
    found = container_results(project, engine, "loop")["container.state"]
    assert found["status"] == "critical"
    assert "exit code 5" in found["message"]
    project.remove("loop")


def test_an_unhealthy_container_says_what_its_check_said(project: Project, engine: Engine) -> None:
    start(
        project,
        "sick",
        "sleep 600",
        *("--health-cmd", "echo no luck; exit 1", "--health-interval", "1s"),
        *("--health-retries", "1", "--health-timeout", "2s"),
    )
    first = container_results(project, engine, "sick")["container.health"]
    assert first["status"] in ("ok", "critical")
    wait_until("it is unhealthy", lambda: project.container("sick").health == "unhealthy")
    found = container_results(project, engine, "sick")["container.health"]
    assert found["status"] == "critical"
    assert "no luck" in found["message"]


@pytest.mark.usefixtures("sleeper")
def test_a_project_that_does_not_exist(project: Project, engine: Engine) -> None:
    found = judged(containers.collectors(Stack("no-such-project"), CheckSettings(), engine))
    assert found["project.found"]["status"] == "critical"
    assert project.name in found["project.found"]["message"]
    assert found["project.compose_file"]["status"] == "skipped"


# An engine that cannot be had

Answer = Callable[[socket.socket], None]


@contextlib.contextmanager
def listening(path: Path, answer: Answer) -> Iterator[str]:
    """A Unix socket whose every connection is given to ``answer`` on a thread."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            while True:
                try:
                    connection, _address = listener.accept()
                except OSError:
                    return
                threading.Thread(target=answer, args=(connection,), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        yield f"unix://{path}"
        listener.shutdown(socket.SHUT_RDWR)


def refused(base_url: str, timeout_seconds: float = 1.0) -> EngineUnavailable:
    started = time.monotonic()
    with pytest.raises(EngineUnavailable) as failure:
        Engine(timeout_seconds, base_url)
    assert time.monotonic() - started < timeout_seconds + 2
    return failure.value


def programs(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Let only these be found, whatever this machine has."""

    def which(name: str, path: str) -> str | None:
        assert "/usr/sbin" in path
        return f"/usr/bin/{name}" if name in names else None

    monkeypatch.setattr("shutil.which", which)


@pytest.mark.parametrize(
    ("installed", "reason", "words"),
    [
        (["dockerd", "docker"], "not_running", "installed but not running: there is no socket"),
        (["docker"], "not_installed", "only Docker's client is installed"),
        ([], "not_installed", "Docker is not installed"),
    ],
)
def test_no_socket(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    installed: list[str],
    reason: str,
    words: str,
) -> None:
    programs(monkeypatch, *installed)
    error = refused(f"unix://{tmp_path}/docker.sock")
    assert (error.reason, error.status) == (reason, "critical")
    assert words in str(error)
    assert error.hint


def test_a_socket_nobody_listens_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs(monkeypatch, "dockerd")
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "s"))
    error = refused(f"unix://{tmp_path}/s")
    assert error.reason == "not_running"
    assert "nobody listens on" in str(error)


def test_an_engine_that_accepts_and_never_answers(tmp_path: Path) -> None:
    with listening(tmp_path / "s", lambda _connection: time.sleep(30)) as url:
        error = refused(url)
    assert (error.reason, error.status) == ("timeout", "critical")
    assert "did not answer (version) within 1 s" in str(error)


def test_an_engine_that_stops_answering_later(tmp_path: Path) -> None:
    silent = threading.Event()

    def relay(near: socket.socket) -> None:
        with socket.socket(socket.AF_UNIX) as far:
            far.connect(SOCKET)
            threading.Thread(target=copy, args=(far, near), daemon=True).start()
            copy(near, far)

    def copy(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if silent.is_set():
                    time.sleep(30)
                sink.sendall(data)

    with listening(tmp_path / "s", relay) as url:
        engine = Engine(1.0, url)
        assert engine.version()["Version"]
        silent.set()
        for call in (
            engine.info,
            lambda: engine.summaries("x"),
            lambda: engine.image_id("x"),
            lambda: engine.run("x", ["true"], 1),
            lambda: list(engine.logs("x", 1, 1)),
        ):
            started = time.monotonic()
            with pytest.raises(EngineUnavailable, match="did not answer"):
                call()
            assert time.monotonic() - started < 3
        # What the list said is still worth telling.
        (container,) = engine.inspect([{"Id": "x" * 64, "Names": ["/n"], "State": "running"}])
        assert container.state == "running"
        assert "did not answer" in container.error


def test_something_that_is_no_engine(tmp_path: Path) -> None:
    def nonsense(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.recv(65536)
            connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")

    with listening(tmp_path / "s", nonsense) as url:
        error = refused(url)
    assert (error.reason, error.status) == ("unusable", "unknown")


@pytest.mark.parametrize("url", ["ssh://host", "nonsense"])
def test_an_address_that_is_none(url: str) -> None:
    error = refused(url)
    assert error.reason == "unusable"
    assert error.hint == "check DOCKER_HOST"


def test_the_environments_address_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    with pytest.raises(EngineUnavailable, match="which DOCKER_HOST names") as failure:
        Engine(1.0)
    assert failure.value.reason == "not_running"


def test_no_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "docker"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "docker", None)
    with pytest.raises(EngineUnavailable, match="cannot be imported") as failure:
        Engine(1.0)
    assert (failure.value.reason, failure.value.status) == ("sdk_missing", "unknown")
    assert failure.value.hint.startswith("install python3-docker: ansible-playbook")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_user_who_may_not(tmp_path: Path) -> None:
    tmp_path.chmod(stat.S_IRWXU)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        answer = "was let in"
        try:
            os.setresuid(65534, 65534, 65534)
            check_socket(f"unix://{tmp_path}/docker.sock", 1.0)
        except EngineUnavailable as error:
            answer = f"{error.reason} {error.status}: {error}"
        except BaseException as error:  # the child must not go on with the tests
            answer = repr(error)
        os.write(writer, answer.encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader) as pipe:
        answer = pipe.read()
    assert answer.startswith("permission_denied unknown: user ")


def test_over_tcp(sleeper: Container) -> None:
    """The same engine behind a TCP port, as DOCKER_HOST may name one."""
    listener = socket.create_server(("127.0.0.1", 0))

    def copy(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def serve() -> None:
        while True:
            try:
                near, _address = listener.accept()
            except OSError:
                return
            far = socket.socket(socket.AF_UNIX)
            far.connect(SOCKET)
            threading.Thread(target=copy, args=(near, far), daemon=True).start()
            threading.Thread(target=copy, args=(far, near), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    with listener:
        remote = Engine(5.0, f"tcp://127.0.0.1:{listener.getsockname()[1]}")
        assert remote.image_id(image("redis")) == sleeper.image_id
        assert remote.run(sleeper.id, ["echo", "hi"], 10) == (0, "hi\n")
        assert list(remote.logs(sleeper.id, 3600, 1000)) == []
        listener.shutdown(socket.SHUT_RDWR)


# Doing things side by side


def test_what_hangs_does_not_hold_up_the_others() -> None:
    release = threading.Event()

    def work(number: int) -> int:
        if number == 1:
            release.wait(30)
        if number == 2:
            raise ValueError("no")
        return number

    started = time.monotonic()
    answers = [answer for _item, answer in side_by_side(work, [0, 1, 2, 3], 0.5)]
    release.set()
    assert time.monotonic() - started < 3
    assert (answers[0], answers[3]) == (0, 3)
    assert isinstance(answers[1], TimeoutError)
    assert isinstance(answers[2], ValueError)
    assert side_by_side(work, [], 0.5) == []
