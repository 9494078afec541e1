# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""PostgreSQL's own client programs, of the server's own version: out of the server's own image.

Each runs in a helper container that shares the server's network and sees only the folders that it
needs. The password is in a file on a memory filesystem, never in an argument or an environment.
"""

from __future__ import annotations

import glob
import re
import shutil
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from ansible_collections.pynomaly.ops.plugins.module_utils._credentials import scrub
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.engine_control import (
    EngineControl,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.files import write_atomically
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.helper_container import (
    Helper,
    HelperMount,
    run_helper,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.postgres_server import (
    PostgresError,
    PostgresServer,
)

#: Where a helper sees the folder that it works on.
WORK = "/pynomaly-work"
#: Where it writes what is not to be among that.
OUTPUT = "/pynomaly-output"
_PASSFILE = "/pynomaly-secrets/pgpass"
_SECRETS_PREFIX = "pynomaly-ops-secrets-"
_LOCALHOST = "127.0.0.1"


class ToolError(PostgresError):
    """A program ended with another exit code than 0."""

    def __init__(self, program: str, exit_code: int, text: str) -> None:
        super().__init__(f"{program} ended with exit code {exit_code}: {text}")
        self.program = program
        self.exit_code = exit_code
        self.text = text


class PostgresTools:
    """Client programs for one server; to be closed, which removes the password's file."""

    def __init__(self, engine: EngineControl, server: PostgresServer, project: str) -> None:
        self.engine = engine
        self.server = server
        self.project = project
        self._secrets = secrets_folder(project)
        entry = passfile_entry(server.login.user, server.login.password or "")
        write_atomically(self._secrets / "pgpass", entry, 0o600)

    def __enter__(self) -> PostgresTools:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        shutil.rmtree(self._secrets, ignore_errors=True)

    def run(
        self,
        argv: Sequence[str],
        timeout_seconds: float,
        *,
        work: str = "",
        writes: bool = False,
        output: str = "",
        connects: bool = True,
        cancelled: Optional[threading.Event] = None,
    ) -> str:
        """Run a program to its end; returns its standard output (the end of a long one).

        ``work`` is a folder of the host's, seen at L{WORK}, and ``output`` one that it may write
        to, seen at L{OUTPUT}. With ``connects``, host, port and role are added to the arguments;
        the database is the caller's to name. Raises L{ToolError} for an exit code that is not 0,
        C{EngineError} where it does not end in time, or is killed since ``cancelled`` was set.
        """
        words = list(argv)
        if connects:
            words[1:1] = [
                *("--host", _LOCALHOST, "--port", str(self.server.inner_port)),
                *("--username", self.server.login.user, "--no-password"),
            ]
        mounts = [HelperMount(str(self._secrets), str(Path(_PASSFILE).parent))]
        if work:
            mounts.append(HelperMount(work, WORK, read_only=not writes))
        if output:
            mounts.append(HelperMount(output, OUTPUT, read_only=False))
        helper = Helper(
            image=self.server.container.image_id,
            project=self.project,
            network_of=self.server.container.id if connects else "",
            mounts=mounts,
            environment={"PGPASSFILE": _PASSFILE, "PGCONNECT_TIMEOUT": "10", "LC_ALL": "C"},
        )
        result = run_helper(self.engine, helper, words, timeout_seconds, cancelled=cancelled)
        if result.exit_code != 0:
            said = result.stderr if result.stderr.strip() else result.stdout
            text = scrub(_error_lines(said), [self.server.login.password])
            raise ToolError(argv[0], result.exit_code, text)
        return result.stdout

    def version(self, program: str, timeout_seconds: float) -> str:
        """C{17.6} out of C{pg_dump (PostgreSQL) 17.6 (Debian …)}."""
        text = self.run([program, "--version"], timeout_seconds, connects=False)
        match = re.search(r"\d+(?:\.\d+)+|\d+\w*", text)
        return match.group() if match else text.strip()


def secrets_folder(project: str) -> Path:
    """A new folder, mode 0700, for what is secret and short-lived; whoever made it removes it."""
    return Path(tempfile.mkdtemp(prefix=_secrets_prefix(project), dir=_memory_folder()))


def remove_left_secrets(project: str) -> int:
    """Password files of a project's runs that died; to be called under the host's lock. Returns how
    many."""
    left = list(Path(_memory_folder()).glob(f"{glob.escape(_secrets_prefix(project))}*"))
    for folder in left:
        shutil.rmtree(folder, ignore_errors=True)
    return len(left)


def _secrets_prefix(project: str) -> str:
    """No project's is the beginning of another's: Compose allows no dot in a project's name."""
    return f"{_SECRETS_PREFIX}{project}."


def _memory_folder() -> str:
    """A folder that never reaches a disk, where there is one."""
    for place in ("/dev/shm", "/run"):  # noqa: S108  # the folder made in it is 0700
        if Path(place).is_dir():
            return place
    return tempfile.gettempdir()


def passfile_entry(user: str, password: str) -> str:
    """A line of a password file, for every server and database."""
    return ":".join(("*", "*", "*", _escaped(user), _escaped(password))) + "\n"


def _escaped(text: str) -> str:
    """As a password file wants a field:
    https://www.postgresql.org/docs/current/libpq-pgpass.html"""
    return text.replace("\\", "\\\\").replace(":", "\\:")


def _error_lines(stderr: str) -> str:
    """What a program said of its failure, without its chatter, on one line."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    telling = [line for line in lines if re.search(r"error|fatal|panic", line, re.IGNORECASE)]
    return "; ".join((telling or lines or ["it said nothing"])[-3:])[:600]
