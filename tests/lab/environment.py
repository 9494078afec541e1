# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The Python environments that the lab works with, kept in the cache by what they contain."""

from __future__ import annotations

import os
import shutil
import sys
import time
from contextlib import nullcontext
from pathlib import Path

from lab import nodes
from lab.cache import ROOT, collections_path, exclusive, folder, short_hash
from lab.packages import install as install_packages
from lab.shell import LabError, run, say, step


def ensure(name: str) -> Path:
    """Give the directory of the environment ``name`` (``requirements/NAME.txt``), made if missing.

    An environment is found by its requirement files and the interpreter; a stamp that is
    written last tells a whole one from one whose making was cut off.
    """
    python = interpreter()
    version = run([python, "-c", "import sys; print(sys.version)"], timeout_seconds=30).stdout
    directory = folder("environments") / name_for(name, python, version)
    stamp = directory / "complete"
    with exclusive() if not stamp.exists() else nullcontext():
        if stamp.exists():
            stamp.touch()
            return directory
        _forget_unused()
        _ensure_venv_module(python)
        say(f"making the Python environment {directory} (once, some minutes)")
        with step(f"made the environment {name}"):
            shutil.rmtree(directory, ignore_errors=True)
            run([python, "-m", "venv", str(directory)], timeout_seconds=300)
            install(directory / "bin" / "python", name)
            stamp.touch()
    return directory


def name_for(name: str, *interpreter_identity: str) -> str:
    """Give the directory name of an environment: another one when anything of it changes."""
    return f"{name}-{short_hash(_requirements(name), *interpreter_identity)}"


def install(python: Path, name: str) -> None:
    """Install ``requirements/NAME.txt`` with pip into the environment of ``python``."""
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    requirements = ROOT / "requirements" / f"{name}.txt"
    run([*command, "--requirement", str(requirements)], timeout_seconds=1800)


def interpreter() -> str:
    """Give the interpreter for the environments: the distribution's, or else the lab's own."""
    system = Path("/usr/bin/python3")
    return str(system) if system.exists() else sys.executable


_KEPT_SECONDS = 30 * 86400
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def variables(environment: Path) -> dict[str, str]:
    """Give the environment variables with which Ansible and its tools know the lab."""
    options = "-o ControlMaster=auto -o ControlPersist=120s"
    return {
        "PATH": f"{environment / 'bin'}:{_SYSTEM_PATH}",
        "VIRTUAL_ENV": str(environment),
        "PYTHONDONTWRITEBYTECODE": "1",
        "ANSIBLE_CONFIG": str(ROOT / "tests" / "lab" / "ansible.cfg"),
        "ANSIBLE_COLLECTIONS_PATH": str(collections_path()),
        "ANSIBLE_INVENTORY": f"{ROOT / 'inventories' / 'lab'},{nodes.inventory()}",
        "ANSIBLE_SSH_ARGS": f"-F {nodes.ssh_config()} {options}",
        "ANSIBLE_SSH_CONTROL_PATH_DIR": str(nodes.control_sockets()),
        "PYNOMALY_LAB_SSH_CONFIG": str(nodes.ssh_config()),
        "LC_ALL": os.environ.get("LC_ALL", "C.UTF-8"),
    }


def _requirements(name: str) -> str:
    """Read a requirement file with those that it includes."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    included = [line.split()[1] for line in text.splitlines() if line.startswith("-r ")]
    return text + "".join(_requirements(Path(other).stem) for other in included)


def _forget_unused() -> None:
    """Remove environments that nothing has used for a month: each has hundreds of megabytes."""
    for stamp in folder("environments").glob("*/complete"):
        if time.time() - stamp.stat().st_mtime > _KEPT_SECONDS:
            shutil.rmtree(stamp.parent)


def _ensure_venv_module(python: str) -> None:
    completed = run([python, "-c", "import ensurepip, venv"], timeout_seconds=30, check=False)
    if completed.returncode != 0:
        install_packages("python3-venv")
        completed = run([python, "-c", "import ensurepip, venv"], timeout_seconds=30, check=False)
    if completed.returncode != 0:
        raise LabError(
            f"{python} has no module venv with ensurepip: {completed.stderr.strip()}\n"
            "Install python3-venv for it, then run the same ./lab command again."
        )
