# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Everything that must pass, in parts: one table of what each part is, and what it runs."""

from __future__ import annotations

import atexit
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from lab import ansible_test, environment, images, nodes
from lab.cache import CACHE, ROOT, collection_root, collections_path, folder
from lab.engine import MARK, ensure_running
from lab.packages import need
from lab.shell import LabError, quoted, run, run_shown, say

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_COMMAND_TIMEOUT_SECONDS = 1800.0
_COVERAGE_PERCENT = 90
_TRUSTED = "/etc/ssl/certs/ca-certificates.crt"
_PIP_VARIABLES = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST")
#: Scenarios that no limit of time is part of.
_FOREIGN = ("adopted", "older")
#: It restarts the server: no other scenario is to begin with what that leaves.
_LAST = "incident"
#: Mostly waits for its engines, so that it runs beside those that come before it.
_ASIDE = "integration"
_ASIDE_TIMEOUT_SECONDS = 2400.0
_NODE_IN_SCENARIO = re.compile(r"\b(node|debian)(\d+)\b")


@dataclass
class Part:
    """One part while it runs: its commands are shown, and the failed ones remembered."""

    home: Path
    """The Python environment with all test tools."""
    failures: list[str] = field(default_factory=list)

    def command(
        self,
        *argv: str,
        directory: Path | None = None,
        variables: Mapping[str, str] | None = None,
        expect_silence: str = "",
    ) -> bool:
        """Run a command, shown; a non-zero exit code fails the part, and the part goes on.

        Returns whether the command did what it should. With ``expect_silence``, a regular
        expression, output that matches it fails too.
        """
        say(f"\n$ {quoted(argv)}")
        failures_before = len(self.failures)
        environment_variables = {**environment.variables(self.home), **(variables or {})}
        where = directory or collection_root()
        try:
            if expect_silence:
                completed = run(
                    argv,
                    timeout_seconds=_COMMAND_TIMEOUT_SECONDS,
                    check=False,
                    environment=environment_variables,
                    directory=where,
                )
                output = completed.stdout + completed.stderr
                say(output.rstrip())
                code = completed.returncode
                for complaint in re.finditer(expect_silence, output, re.MULTILINE):
                    self.failures.append(f"{shortened(argv)}: {complaint.group()}")
            else:
                code = run_shown(
                    argv,
                    timeout_seconds=_COMMAND_TIMEOUT_SECONDS,
                    environment=environment_variables,
                    directory=where,
                )
        except LabError as error:
            self.failures.append(str(error))
            return False
        if code != 0:
            self.failures.append(f"{shortened(argv)}: exit code {code}")
        return len(self.failures) == failures_before

    def require(self, path: Path, what: str) -> bool:
        """Fail the part when what it is to test does not exist."""
        if path.exists():
            return True
        self.failures.append(f"there is no {what}: {path.relative_to(ROOT)} does not exist")
        return False


def shortened(argv: Sequence[str], characters: int = 120) -> str:
    """Give a command for the summary: the whole of it stands where it ran."""
    text = quoted(argv)
    return text if len(text) <= characters else f"{text[: characters - 1]}…"


def _lint(part: Part) -> None:
    part.command("ansible-lint", "--profile", "production", "--strict", "--offline")
    part.command("yamllint", "--strict", ".")
    part.command("ruff", "check", "--no-cache", ".")
    part.command("ruff", "format", "--check", "--no-cache", ".")
    cache = f"--cache-dir={folder('mypy')}"
    search_path = f"{collections_path()}:{ROOT / 'tests'}"
    part.command(
        *("mypy", cache, "--package", "ansible_collections.pynomaly.ops.plugins"),
        variables={"MYPYPATH": search_path},
        directory=ROOT,
    )
    part.command(
        *("mypy", cache, "--package", "lab"), variables={"MYPYPATH": search_path}, directory=ROOT
    )


def _docs(part: Part) -> None:
    part.command("antsibull-docs", "lint-collection-docs", "--plugin-docs", ".")
    part.command("antsibull-changelog", "lint")


def _sanity(part: Part) -> None:
    need({"shellcheck": "shellcheck"})
    with tempfile.TemporaryDirectory(dir=folder("temporary")) as temporary:
        # What is not shipped has ruff and mypy, and names that Ansible's own pylint forbids.
        collection = _copied_collection(Path(temporary), left_out=_NOT_SHIPPED)
        version = ansible_test.prepare(part.home)
        part.command(
            *("ansible-test", "sanity", "--local", "--color", "no", "--python", version),
            directory=collection,
            variables={
                "HOME": str(ansible_test.home()),
                "ANSIBLE_COLLECTIONS_PATH": temporary,
                "ANSIBLE_CONFIG": os.devnull,
            },
        )


def _unit(part: Part) -> None:
    if not part.require(ROOT / "tests" / "unit", "unit test"):
        return
    with tempfile.TemporaryDirectory(dir=folder("temporary")) as temporary:
        part.command(
            *("python", "-m", "pytest", "-p", "no:cacheprovider", "tests/unit", "-n", "2"),
            f"--cov={ROOT / 'plugins' / 'module_utils'}",
            f"--cov-config={ROOT / 'tests' / 'lab' / 'coverage.ini'}",
            "--cov-branch",
            "--cov-report=term-missing:skip-covered",
            f"--cov-fail-under={_COVERAGE_PERCENT}",
            directory=ROOT,
            variables={
                "PYTHONPATH": str(collections_path()),
                "COVERAGE_FILE": str(Path(temporary) / "coverage"),
            },
        )
    other = _OtherController(part)
    if other.ready():
        other.command("-m", "pytest", "-p", "no:cacheprovider", "tests/unit", "-n", "2")


class _OtherController:
    """Another Debian's Python, and with it the ansible-core that is made for that, in a container.

    The container sees the checkout and the cache under their own paths, and makes an
    environment there, as the lab does on this machine.
    """

    def __init__(self, part: Part) -> None:
        ours = run(
            [str(part.home / "bin" / "python"), "-c", "import sys; print(sys.version_info[1])"],
            timeout_seconds=30,
        ).stdout.strip()
        key = f"controller:{'bookworm' if ours == '13' else 'trixie'}"
        ensure_running()
        known = images.load()
        images.ensure_in_engine(known[key], known)
        self._part = part
        self._image = known[key].name
        self.home = folder("environments") / environment.name_for("unit", key, known[key].hash)

    def ready(self) -> bool:
        """Make the environment where it is missing; false where that failed."""
        if (self.home / "complete").exists():
            return True
        shutil.rmtree(self.home, ignore_errors=True)
        requirements = ROOT / "requirements" / "unit.txt"
        before = len(self._part.failures)
        self._run("python3", "-m", "venv", str(self.home))
        self.command(
            *("-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
            *("--requirement", str(requirements)),
        )
        if len(self._part.failures) > before:
            return False
        (self.home / "complete").touch()
        return True

    def command(self, *arguments: str, variables: Mapping[str, str] | None = None) -> None:
        """Run the environment's Python with these arguments."""
        self._run(str(self.home / "bin" / "python"), *arguments, variables=variables)

    def _run(self, *argv: str, variables: Mapping[str, str] | None = None) -> None:
        known = {
            "PYTHONPATH": str(collections_path()),
            "PYTHONDONTWRITEBYTECODE": "1",
            **(variables or {}),
        }
        self._part.command(
            *("docker", "run", "--rm", "--init", "--network", "host", "--label", MARK),
            *("--user", f"{os.getuid()}:{os.getgid()}"),
            *("--volume", f"{ROOT}:{ROOT}:ro", "--volume", f"{CACHE}:{CACHE}"),
            # Whom this machine trusts, the container does: some networks have their own authority.
            *("--volume", f"{_TRUSTED}:{_TRUSTED}:ro", "--env", f"PIP_CERT={_TRUSTED}"),
            *(word for name, value in known.items() for word in ("--env", f"{name}={value}")),
            *(word for name in _PIP_VARIABLES if name in os.environ for word in ("--env", name)),
            *("--workdir", str(ROOT), self._image, *argv),
        )


def _controller(part: Part) -> None:
    nodes.up(1)
    other = _OtherController(part)
    if not other.ready():
        return
    variables = {**environment.variables(other.home), "HOME": str(folder("temporary"))}
    with tempfile.TemporaryDirectory(dir=folder("temporary")) as temporary:
        for name in ("prepare", "deploy", "daily_check", "status", "history"):
            other.command(
                *(str(other.home / "bin" / "ansible-playbook"), f"pynomaly.ops.{name}"),
                *("--limit", "node1", "-e", f"pynomaly_report_dir={temporary}"),
                # The scenarios before this one broke the stack, which its logs still tell.
                *("-e", '{"pynomaly_check_error_rate_window_minutes": 0.1}'),
                variables=variables,
            )


def _report(part: Part) -> None:
    need({"chromium": "chromium", "pdftotext": "poppler-utils"})
    part.command(
        *("python", "-m", "pytest", "-p", "no:cacheprovider", "tests/report"),
        directory=ROOT,
        variables={"PYTHONPATH": str(collections_path())},
    )


def _lab(part: Part) -> None:
    part.command("python", "-m", "pytest", "-p", "no:cacheprovider", "tests/lab", directory=ROOT)


def _integration(part: Part) -> None:
    if not part.require(ROOT / "tests" / "integration", "integration test"):
        return
    need({"age": "age", "rclone": "rclone"})
    nodes.up(1)
    known = images.load()
    for image in known.values():
        images.ensure_in_engine(image, known)
    # Each file has engines of its own, and mostly waits for them.
    part.command(
        *("python", "-m", "pytest", "-p", "no:cacheprovider", "tests/integration"),
        *("-n", "3", "--dist", "loadfile"),
        directory=ROOT,
        variables={"PYTHONPATH": str(collections_path())},
    )


def _importer(part: Part) -> None:
    with tempfile.TemporaryDirectory(dir=folder("temporary")) as temporary:
        directory = Path(temporary)
        collection = _copied_collection(directory)
        part.command(
            *("ansible-galaxy", "collection", "build", "--output-path", temporary),
            directory=collection,
        )
        built = sorted(directory.glob("pynomaly-ops-*.tar.gz"))
        if not built:
            part.failures.append("no archive was built: pynomaly-ops-*.tar.gz does not exist")
            return
        part.command(
            *("python", "-m", "galaxy_importer.main", str(built[0])),
            directory=directory,
            expect_silence=r"^(WARNING|ERROR|CRITICAL)\b.*",
        )
        installed = directory / "installed"
        clean = {"ANSIBLE_COLLECTIONS_PATH": str(installed)}
        part.command(
            *("ansible-galaxy", "collection", "install", "--no-deps", "--offline"),
            *("--collections-path", str(installed), str(built[0])),
            directory=directory,
            variables=clean,
        )
        playbooks = installed / "ansible_collections" / "pynomaly" / "ops" / "playbooks"
        for playbook in sorted(playbooks.glob("*.yml")):
            part.command(
                *("ansible-playbook", "--inventory", "localhost,", "--syntax-check"),
                f"pynomaly.ops.{playbook.stem}",
                directory=directory,
                variables=clean,
            )


def _foreign(part: Part) -> None:
    _scenarios(part, lambda name: name in _FOREIGN)


def _molecule(part: Part) -> None:
    _scenarios(part, lambda name: name not in _FOREIGN)


def _scenarios(part: Part, is_wanted: Callable[[str], bool]) -> None:
    found = sorted((ROOT / "molecule").glob("*/molecule.yml"))
    scenarios = [scenario for scenario in found if is_wanted(scenario.parent.name)]
    scenarios.sort(key=lambda scenario: scenario.parent.name == _LAST)
    if not scenarios:
        part.failures.append("there is no scenario: molecule/*/molecule.yml does not exist")
        return
    for scenario in scenarios:
        found_nodes = _NODE_IN_SCENARIO.findall(scenario.read_text())
        numbers = [int(number) for kind, number in found_nodes if kind == "node"]
        debians = {int(number) for kind, number in found_nodes if kind == "debian"}
        nodes.up(max(numbers, default=1), other_debians=debians)
        part.command("molecule", "test", "--scenario-name", scenario.parent.name)


_PARTS: dict[str, tuple[str, Callable[[Part], None]]] = {
    "lab": ("what the lab promises, on a lab beside this one: mended, quick, nothing left", _lab),
    "lint": ("ansible-lint (production), yamllint, ruff, mypy", _lint),
    "docs": ("antsibull-docs and antsibull-changelog lint", _docs),
    "sanity": ("ansible-test sanity", _sanity),
    "unit": ("pytest on pure logic, branch coverage; again under another Python", _unit),
    "report": ("the HTML page in headless Chromium: phone, desk and paper", _report),
    "importer": ("galaxy-importer on the built archive, and the archive installed", _importer),
    "foreign": ("scenarios on stacks and releases that are not the lab's own", _foreign),
    "integration": ("the lab's images and the modules against real engines", _integration),
    "molecule": ("the other scenarios on the lab's servers", _molecule),
    "controller": ("the playbooks from another Python with another ansible-core", _controller),
}


def names() -> list[str]:
    """List the parts in the order in which they run."""
    return list(_PARTS)


def overview() -> str:
    """Give the table of parts for the help text."""
    return "parts:\n" + "\n".join(f"  {name:12} {part[0]}" for name, part in _PARTS.items())


def main(chosen: Sequence[str]) -> int:
    """Run the chosen parts, or all; print what failed, and return 1 if anything did."""
    selected = [name for name in _PARTS if name in chosen or not chosen]
    need({"git": "git"})
    home = environment.ensure("test")
    rows = []
    aside: _Aside | None = None
    for name in selected:
        # The lab's own part kills engines: nothing may run beside it.
        if aside is None and _ASIDE in selected and name not in ("lab", _ASIDE):
            aside = _Aside(_ASIDE)
        part = Part(home)
        started_at = time.monotonic()
        if aside is not None and name == aside.name:
            part.failures += aside.finish()
            rows.append((name, aside.seconds, part.failures))
            continue
        say(f"\n{'=' * 78}\n{name}: {_PARTS[name][0]}\n{'=' * 78}")
        try:
            _PARTS[name][1](part)
        except LabError as error:
            part.failures.append(str(error))
        rows.append((name, time.monotonic() - started_at, part.failures))
    say(f"\n{'part':14}{'result':10}{'seconds':>8}")
    for name, seconds, failures in rows:
        say(f"{name:14}{'failed' if failures else 'passed':10}{seconds:8.1f}")
    failed = [name for name, _seconds, failures in rows if failures]
    for name, _seconds, failures in rows:
        for failure in failures:
            say(f"\n{name}: {failure}")
    if failed:
        say(f"\nFailed: {', '.join(failed)}. To run them alone: ./lab test {' '.join(failed)}")
    return 1 if failed else 0


class _Aside:
    """A part that runs as a process of its own beside others; shown whole when its turn comes."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.seconds = 0.0
        self._output = folder("temporary") / f"{name}.log"
        self._started_at = time.monotonic()
        with self._output.open("w") as output:
            self._process = subprocess.Popen(
                [str(ROOT / "lab"), "test", name],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        say(f"{name} runs beside what follows, and is shown after it; so far: {self._output}")
        atexit.register(self._stop)

    def finish(self) -> list[str]:
        """Wait for its end, and show what it printed; what failed."""
        try:
            self._process.wait(_ASIDE_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            self._stop()
        self.seconds = time.monotonic() - self._started_at
        say(self._output.read_text(errors="replace").rstrip())
        code = self._process.returncode
        return [] if code == 0 else [f"./lab test {self.name}: exit code {code}, as shown above"]

    def _stop(self) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


_NOT_SHIPPED = ("molecule/", "tests/")


def _copied_collection(directory: Path, *, left_out: Sequence[str] = ()) -> Path:
    """Copy what git tracks, or would, to a real ``…/ansible_collections/pynomaly/ops``."""
    destination = directory / "ansible_collections" / "pynomaly" / "ops"
    listed = run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        timeout_seconds=60,
        directory=ROOT,
    ).stdout
    for name in filter(None, listed.split("\0")):
        source = ROOT / name
        if source.is_file() and not name.startswith(tuple(left_out)):
            (destination / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, destination / name)
    return destination
