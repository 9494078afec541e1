# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import datetime
import getpass
import json
import os
import re
import socket
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Optional

from ansible import constants as C  # noqa: N812  Ansible's own name for them
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.report_files import (
    write_report_files,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._probe import (
    CRITICAL,
    OK,
    SKIPPED,
    UNKNOWN,
    WARNING,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._report import (
    FAIL_ON,
    ReportError,
    Run,
    build_report,
    failing_hosts,
    plain,
    run_statistics,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._report_html import render_html
from ansible_collections.pynomaly.ops.plugins.module_utils._report_markdown import render_markdown
from ansible_collections.pynomaly.ops.plugins.module_utils._report_table import render_table

display = Display()

ARGUMENT_SPEC: dict[str, dict[str, Any]] = {
    "kind": {"type": "str", "default": "daily_check"},
    "title": {"type": "str"},
    "variable": {"type": "str"},
    "hosts": {"type": "dict"},
    "dir": {"type": "path", "default": "reports"},
    "formats": {
        "type": "list",
        "elements": "str",
        "choices": ["table", "json", "markdown", "html"],
        "default": ["table", "json", "markdown", "html"],
    },
    "fail_on": {"type": "str", "choices": list(FAIL_ON), "default": CRITICAL},
    "contacts": {"type": "list", "elements": "dict", "default": []},
    "escalation": {"type": "list", "elements": "dict", "default": []},
    "links": {"type": "list", "elements": "dict", "default": []},
    "run_id": {"type": "str"},
    "started_at": {"type": "str"},
}


def _render_json(report: Mapping[str, Any]) -> str:
    return json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


#: Each form that is a file: its ending, and what makes its text.
FILES: Mapping[str, tuple[str, Callable[[Mapping[str, Any]], str]]] = {
    "json": ("json", _render_json),
    "markdown": ("md", render_markdown),
    "html": ("html", render_html),
}


def collection_version(root: Path) -> str:
    """The version of the collection in ``root``, installed (MANIFEST.json) or a checkout
    (galaxy.yml); empty where neither tells."""
    manifest = root / "MANIFEST.json"
    if manifest.is_file():
        about = json.loads(manifest.read_text(encoding="utf-8"))
        return str(about["collection_info"]["version"])
    galaxy = root / "galaxy.yml"
    if galaxy.is_file():
        found = re.search(r"^version:\s*[\"']?([^\s\"']+)", galaxy.read_text("utf-8"), re.MULTILINE)
        return found.group(1) if found else ""
    return ""


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # an execution environment may run as an id without a name
        return f"uid {os.getuid()}"


def _moment(text: str) -> datetime.datetime:
    try:
        moment = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError as error:
        raise ReportError(
            f"started_at: seen {text!r}, expected ISO 8601 such as 2026-11-24T06:37:15Z"
        ) from error
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=datetime.timezone.utc)


def _began(
    asked: Optional[str], outcomes: Mapping[str, Any], now: datetime.datetime
) -> datetime.datetime:
    """When the run began: as told, or before now by what the slowest host took. Hosts' own clocks
    are not asked, since one of them may be wrong."""
    if asked:
        return min(_moment(asked), now)
    took_ms = [
        outcome["duration_ms"]
        for outcome in outcomes.values()
        if isinstance(outcome, Mapping) and isinstance(outcome.get("duration_ms"), (int, float))
    ]
    return now - datetime.timedelta(milliseconds=max(took_ms, default=0))


class ActionModule(ActionBase):  # type: ignore[misc]
    """Builds, shows and writes the report of a run; touches no host."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True

    def run(
        self, tmp: Optional[str] = None, task_vars: Optional[dict[str, Any]] = None
    ) -> dict[str, Any]:
        answer: dict[str, Any] = super().run(tmp, task_vars)
        variables: Mapping[str, Any] = task_vars or {}
        _validation, arguments = self.validate_argument_spec(argument_spec=ARGUMENT_SPEC)
        if (arguments["variable"] is None) == (arguments["hosts"] is None):
            raise AnsibleActionFail("expected one of variable and hosts, seen both or neither")
        outcomes = self._outcomes(arguments, variables)
        now = datetime.datetime.now(datetime.timezone.utc)
        kind = arguments["kind"]
        try:
            run = Run(
                run_id=arguments["run_id"] or str(uuid.uuid4()),
                started_at=_began(arguments["started_at"], outcomes, now),
                finished_at=now,
                controller=socket.gethostname(),
                user=str(variables.get("awx_user_name") or _user()),
                collection_version=collection_version(Path(__file__).resolve().parents[2]),
            )
            report = build_report(
                kind,
                arguments["title"] or kind.replace("_", " ").capitalize(),
                run,
                outcomes,
                fail_on=arguments["fail_on"],
                contacts=plain(arguments["contacts"]),
                escalation=plain(arguments["escalation"]),
                links=plain(arguments["links"]),
            )
        except ReportError as error:
            raise AnsibleActionFail(f"the report cannot be built: {error}") from error

        paths, trouble = self._written(report, arguments)
        shown = [str(path) for path in paths.values()]
        lines = render_table(report, shown)
        if "table" in arguments["formats"]:
            self._show(lines)
        full_paths = {form: str(path.absolute()) for form, path in paths.items()}
        statistics = run_statistics(report, full_paths)
        answer.update(
            changed=False,
            status=report["status"],
            table=[line.text for line in lines],
            paths=full_paths,
            stats=statistics,
            failing_hosts=failing_hosts(report),
            ansible_stats={"data": statistics, "per_host": False, "aggregate": True},
        )
        if trouble is not None:
            answer.update(failed=True, msg=trouble)
        return answer

    def _outcomes(
        self, arguments: Mapping[str, Any], variables: Mapping[str, Any]
    ) -> dict[str, Optional[Mapping[str, Any]]]:
        """What was registered for each host of the play, by the host's name."""
        if arguments["hosts"] is not None:
            given = arguments["hosts"]
        else:
            known = variables["hostvars"]
            given = {
                name: known[name].get(arguments["variable"])
                for name in variables["ansible_play_hosts_all"]
            }
        outcomes: dict[str, Optional[Mapping[str, Any]]] = {}
        for name, outcome in plain(given).items():
            if outcome is not None and not isinstance(outcome, Mapping):
                raise AnsibleActionFail(
                    f"hosts: seen {type(outcome).__name__} for {name}, expected what a task "
                    "registered there"
                )
            outcomes[name] = outcome
        return outcomes

    def _written(
        self, report: Mapping[str, Any], arguments: Mapping[str, Any]
    ) -> tuple[dict[str, Path], Optional[str]]:
        """The files by their form, and what went wrong with them, which must not cost the table."""
        forms = [form for form in arguments["formats"] if form in FILES]
        if not forms:
            return {}, None
        texts = {FILES[form][0]: FILES[form][1](report) for form in forms}
        try:
            written = write_report_files(report, arguments["dir"], texts)
        except OSError as error:
            return {}, (
                f"the report could not be written: {error}; expected a folder that {_user()} can "
                f"write on the controller, seen {arguments['dir']}; choose another with "
                "-e pynomaly_report_dir=FOLDER. The table was printed and is in this result."
            )
        return {form: written[FILES[form][0]] for form in forms}, None

    def _show(self, lines: list[Any]) -> None:
        """Print the table in the colours that Ansible is set to, if any."""
        colours = {
            CRITICAL: C.COLOR_ERROR,
            WARNING: C.COLOR_CHANGED,
            UNKNOWN: C.COLOR_WARN,
            OK: C.COLOR_OK,
            SKIPPED: C.COLOR_SKIP,
        }
        display.display("")
        for line in lines:
            display.display(line.text, color=colours.get(line.status))
        display.display("")
