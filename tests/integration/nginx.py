# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An nginx in a container, as its clients see it."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from .conftest import docker


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: str

    @classmethod
    def read(cls, text: str) -> Answer:
        while True:
            head, _blank, rest = text.replace("\r\n", "\n").partition("\n\n")
            lines = head.splitlines()
            status = int(lines[0].split()[1])
            if status >= 200:
                break
            text = rest
        headers = dict(line.split(": ", 1) for line in lines[1:] if ": " in line)
        return cls(status, {name.lower(): value for name, value in headers.items()}, rest)


def ask(container_id: str, url: str, *options: str) -> Answer:
    """A request out of a container; status 0 where nobody answers."""
    curl = ["curl", "--silent", "--insecure", "--max-time", "5", "--include", *options, url]
    done = docker("exec", container_id, *curl, check=False)
    return Answer.read(done.stdout) if done.returncode == 0 else Answer(0, {}, "")


def make_certificate(folder: Path) -> None:
    folder.mkdir()
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", "/CN=shop.example"),
            *("-keyout", str(folder / "own.key"), "-out", str(folder / "own.crt")),
        ],
        check=True,
        capture_output=True,
        timeout=30,
    )
