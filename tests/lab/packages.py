# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Install what the machine lacks from its own distribution."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from lab.cache import exclusive
from lab.shell import LabError, run, say, step

if TYPE_CHECKING:
    from collections.abc import Mapping

_lists_are_fresh = False


def is_installed(program: str) -> bool:
    """Look for a program, also where only root's PATH usually looks."""
    return shutil.which(program) is not None or any(
        Path(directory, program).exists() for directory in ("/usr/sbin", "/sbin")
    )


def need(packages: Mapping[str, str]) -> None:
    """Install the packages whose program or file is missing.

    ``packages`` maps a program's name, or a file's absolute path, to the package that
    brings it. Raises LabError where apt or the right to use it is missing.
    """

    def missing() -> dict[str, str]:
        return {
            thing: package
            for thing, package in packages.items()
            if not (Path(thing).exists() if thing.startswith("/") else is_installed(thing))
        }

    if missing():
        install(*sorted(set(missing().values())))
    for thing, package in missing().items():
        raise LabError(f"{package} is installed, and still there is no {thing}. Is it in PATH?")


def install(*names: str) -> None:
    """Install packages with apt; LabError where apt or the right to use it is missing."""
    command = ["apt-get", "install", "--yes", "--no-install-recommends", *names]
    if shutil.which("apt-get") is None:
        raise LabError(
            f"The lab needs {', '.join(names)}, and there is no apt-get here to install them.\n"
            "It is made for Debian and Ubuntu; elsewhere install their equivalents by hand."
        )
    if os.geteuid() != 0:
        raise LabError(
            f"The lab needs {', '.join(names)}. Run as root:\n    {' '.join(command)}\n"
            "and then the same ./lab command again."
        )
    global _lists_are_fresh  # noqa: PLW0603  (one update serves the whole run)
    with exclusive(), step(f"installed {', '.join(names)}"):
        say(f"installing {', '.join(names)}")
        environment = {"DEBIAN_FRONTEND": "noninteractive"}
        options = ["-o", "DPkg::Lock::Timeout=300", "-o", "Acquire::Retries=3"]
        if not _lists_are_fresh:
            run(["apt-get", *options, "update"], timeout_seconds=600, environment=environment)
            _lists_are_fresh = True
        run([command[0], *options, *command[1:]], timeout_seconds=1800, environment=environment)
