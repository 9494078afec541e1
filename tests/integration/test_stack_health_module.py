# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""stack_health_info itself, run by Ansible on this machine's Python against its engine."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

PLAY = """
- hosts: localhost
  gather_facts: false
  tasks:
    - block:
        - pynomaly.ops.stack_health_info: {arguments}
          register: health
      always:
        - ansible.builtin.copy:
            content: "{{{{ health }}}}"
            dest: {answer}
"""


def look(tmp_path: Path, **arguments: Any) -> dict[str, Any]:
    """What the module answered; the play fails when, and only when, the module does."""
    answer = tmp_path / "answer.json"
    play = tmp_path / "play.yml"
    play.write_text(PLAY.format(arguments=json.dumps(arguments), answer=answer))
    completed = subprocess.run(
        [
            *("ansible-playbook", "-i", "localhost,", "-c", "local", str(play)),
            *("-e", f"ansible_python_interpreter={sys.executable}"),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    output = completed.stdout + completed.stderr
    assert "Traceback" not in output
    found = dict(json.loads(answer.read_text()))
    assert completed.returncode == (2 if found.get("failed") else 0), output
    return found


def by_id(answer: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["id"]: one for one in answer["results"]}


def test_the_engine_and_the_host_are_measured(tmp_path: Path) -> None:
    answer = look(tmp_path, project_name="nobody-has-this")
    seen = by_id(answer)
    assert seen["docker.engine"]["status"] == "ok"
    assert seen["host.memory"]["value"] > 0
    assert seen["project.found"]["status"] == "critical"
    assert "nobody-has-this" in seen["project.found"]["message"]
    assert answer["status"] == "critical"
    assert sum(answer["summary"].values()) == len(answer["results"])
    assert answer["changed"] is False


def test_only_what_is_asked_for_is_measured(tmp_path: Path) -> None:
    answer = look(tmp_path, project_name="nobody-has-this", probes=["host.memory", "runbook.*"])
    assert set(by_id(answer)) == {"host.memory", "runbook.review"}


def test_one_policy_holds_for_every_report(tmp_path: Path) -> None:
    """What a user says about weekly_db's probes is no mistake here; what nobody knows is."""
    waiver = {"probe": "weekly_db.unused_indexes@public.a", "reason": "yes", "until": "2030-01-01"}
    limits = {"weekly_db.bloat": {"warning": 60}, "host.memory": {"warning": 0, "critical": None}}
    answer = look(
        tmp_path, project_name="p", probes=["host.memory"], thresholds=limits, waivers=[waiver]
    )
    assert by_id(answer)["host.memory"]["status"] == "warning"
    answer = look(tmp_path, project_name="p", thresholds={"weekly_db.bloot": {"warning": 1}})
    assert "did you mean weekly_db.bloat" in answer["msg"]


def test_a_textfile_is_left_where_one_is_asked_for(tmp_path: Path) -> None:
    answer = look(tmp_path, project_name="p", probes=["host.memory"], textfile_dir=str(tmp_path))
    text = Path(answer["textfile"]).read_text()
    assert 'pynomaly_probe_status{project="p",probe="host.memory"' in text
    away = look(tmp_path, project_name="p", probes=["host.memory"], textfile_dir="/nonexistent")
    assert away["textfile"] is None


def test_an_overdue_review_is_told(tmp_path: Path) -> None:
    answer = look(
        tmp_path, project_name="p", probes=["runbook.review"], runbook_reviewed="2020-01-01"
    )
    assert by_id(answer)["runbook.review"]["status"] == "warning"


def test_bad_settings_are_refused_before_anything_is_measured(tmp_path: Path) -> None:
    for arguments, said in (
        ({"deadline_seconds": 0}, "deadline_seconds: seen 0"),
        ({"runbook_reviewed": "yesterday"}, "expected YYYY-MM-DD"),
        ({"api_health_path": "health"}, "expected /PATH"),
        ({"service_names": {"databse": "db"}}, "unknown component databse"),
        ({"probes": ["redis.pong"]}, "unknown probe id 'redis.pong'; did you mean redis.ping"),
    ):
        started = time.monotonic()
        answer = look(tmp_path, project_name="p", **arguments)
        assert answer["failed"] is True
        assert said in answer["msg"]
        assert "results" not in answer
        assert time.monotonic() - started < 60


WATCHED_IMPORTS = """
import json, sys, threading, time

class Watch:
    events = []
    def find_spec(self, name, path=None, target=None):
        if name.startswith(("ansible_collections.", "docker")):
            self.events.append(threading.current_thread().name)
            time.sleep(0.001)
        return None

sys.meta_path.insert(0, Watch())
from ansible_collections.pynomaly.ops.plugins.module_utils._context import CheckSettings
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.stack_health import check_stack
from ansible_collections.pynomaly.ops.plugins.module_utils._probe import Selector
Watch.events.clear()
check_stack("inttest-nothing", CheckSettings(), [Selector("*")], {}, time.time())
print(json.dumps(Watch.events))
"""


def test_one_thread_imports_at_a_time() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WATCHED_IMPORTS],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    turns = [name for name, _group in itertools.groupby(json.loads(done.stdout))]
    assert len(turns) > 1, "what is to be seen here needs two threads that import"
    assert len(turns) == len(set(turns)), f"threads imported in between each other: {turns}"
