# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action plugin in real plays: what is printed, written, handed on, and the exit code."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ansible_collections.pynomaly.ops.plugins.action.health_report import collection_version
from ansible_collections.pynomaly.ops.plugins.module_utils import _report
from ansible_collections.pynomaly.ops.tests.unit.plugins.module_utils.report_samples import (
    CONTACTS,
    HOSTILE,
    healthy,
    hostile,
    probe_result,
    registered,
    troubled,
)

COLLECTIONS = Path(_report.__file__).parents[5]
SCHEMA = json.loads(Path(_report.__file__).with_name("report.schema.json").read_text("utf-8"))

#: A module that answers what it is told, so that each kind of answer comes the real way.
CANNED = """
import json
from ansible.module_utils.basic import AnsibleModule
module = AnsibleModule({"path": {"type": "path", "required": True}}, supports_check_mode=True)
with open(module.params["path"]) as file:
    outcome = json.load(file)
if outcome.get("failed"):
    module.fail_json(**outcome)
module.exit_json(**outcome)
"""

PLAYBOOK = """
- name: Check every host and report
  hosts: all
  gather_facts: false
  tasks:
    - name: Check the host
      block:
        - name: Measure the stack
          canned:
            path: "{{ playbook_dir }}/{{ inventory_hostname }}.json"
          register: health
          ignore_unreachable: true
          when: not skipped_by_us | default(false)
      rescue:
        - name: Leave the failure to the report
          ansible.builtin.debug:
            msg: "{{ ansible_failed_result.msg }}"

    - name: Report
      pynomaly.ops.health_report: REPORT_ARGUMENTS
      register: report
      run_once: true

    - name: Fail on hosts past the line
      ansible.builtin.fail:
        msg: "{{ report.failing_hosts[inventory_hostname] }}"
      when: inventory_hostname in report.failing_hosts
"""

FAILED = {"failed": True, "msg": "project: seen 'shop', expected one of pynomaly"}


@dataclass
class Outcome:
    code: int
    output: str
    folder: Path

    def counted(self, host: str) -> dict[str, int]:
        """The host's line of the recap."""
        found = re.search(rf"^{host}\s+: (.*)$", self.output, re.MULTILINE)
        assert found, self.output
        return {key: int(value) for key, value in (pair.split("=") for pair in found[1].split())}

    @property
    def report(self) -> dict[str, Any]:
        text = (self.folder / "reports" / "daily_check-latest.json").read_text("utf-8")
        report: dict[str, Any] = json.loads(text)
        jsonschema.Draft202012Validator(SCHEMA).validate(report)
        return report


def play(
    folder: Path,
    outcomes: dict[str, dict[str, Any]],
    arguments: dict[str, Any],
    options: tuple[str, ...] = (),
    unreachable: tuple[str, ...] = (),
    **environment: str,
) -> Outcome:
    """Run the playbook on hosts that answer ``outcomes``; the unreachable ones are asked over SSH
    at a loopback port where nobody listens."""
    (folder / "library").mkdir(exist_ok=True)
    (folder / "library" / "canned.py").write_text(CANNED)
    given = json.dumps({"variable": "health", **arguments})
    (folder / "play.yml").write_text(PLAYBOOK.replace("REPORT_ARGUMENTS", given))
    for name, outcome in outcomes.items():
        (folder / f"{name}.json").write_text(json.dumps(outcome))
    inventory = [f"{name} ansible_host=127.0.0.1 ansible_port=1" for name in unreachable]
    inventory += [
        f"{name} ansible_connection=local ansible_python_interpreter={sys.executable}"
        for name in outcomes
    ]
    (folder / "inventory").write_text("\n".join(inventory) + "\n")
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("ansible-playbook")),
            *("-i", "inventory", "play.yml", *options),
        ],
        cwd=folder,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "LC_ALL": "C.UTF-8",
            "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
            "ANSIBLE_SHOW_CUSTOM_STATS": "1",
            "ANSIBLE_LOCALHOST_WARNING": "0",
            **environment,
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    return Outcome(done.returncode, done.stdout, folder)


def test_a_healthy_run(tmp_path: Path) -> None:
    run = play(tmp_path, {"node1": healthy(), "node2": healthy()}, {})
    assert run.code == 0, run.output
    assert "Daily check: OK, all well: 56 ok, 6 skipped on 2 hosts" in run.output
    assert "\x1b" not in run.output
    assert run.counted("node1")["changed"] == 0
    report = run.report
    assert report["failed"] is False
    assert report["collection_version"] == collection_version(COLLECTIONS_ROOT)
    assert report["user"]
    assert 1312 <= report["duration_ms"] < 60_000
    folder = tmp_path / "reports"
    assert folder.stat().st_mode & 0o777 == 0o750
    files = sorted(path.name for path in folder.iterdir() if not path.is_symlink())
    assert len(files) == 3
    assert {re.sub(r"-\d{8}T\d{6}Z-[0-9a-f]{8}\.", ".", name) for name in files} == {
        "daily_check.html",
        "daily_check.json",
        "daily_check.md",
    }
    assert all((folder / name).stat().st_mode & 0o777 == 0o640 for name in files)
    assert (folder / "daily_check-latest.html").read_text("utf-8").startswith("<!DOCTYPE html>")
    statistics = run.output.partition("CUSTOM STATS")[2]
    assert '"pynomaly_status": "ok"' in statistics
    assert str(folder / files[0]) in statistics


COLLECTIONS_ROOT = Path(_report.__file__).parents[2]


def test_trouble_of_every_kind_is_shown_before_it_fails_the_hosts_concerned(
    tmp_path: Path,
) -> None:
    run = play(
        tmp_path,
        {"good": healthy(), "bad": troubled(), "broken": FAILED},
        {"contacts": CONTACTS},
        unreachable=("gone",),
    )
    assert run.code == 2, run.output
    table, failures = run.output.split("TASK [Fail on hosts past the line]")
    assert re.search(r"^Daily check: CRITICAL, 4 critical, 2 warning", table, re.MULTILINE)
    assert "CRITICAL  postgres.ready (postgres): connection to 172.19.0.3" in table
    assert "next: docker compose logs --tail 100 postgres" in table
    assert "project: seen 'shop', expected one of pynomaly" in table
    assert (
        "CRITICAL host.reachable: not reachable by SSH: ssh: connect to host 127.0.0.1 port 1: "
        "Connection refused"
    ) in " ".join(table.split())
    assert "call      On-call +1 555 0100" in table
    assert "2 critical: host.disk (/var/lib/docker), postgres.ready (postgres)" in failures
    assert [run.counted(name)["failed"] for name in ("good", "bad", "broken", "gone")] == [
        *(0, 1, 1, 1)
    ]
    assert [entry["name"] for entry in run.report["hosts"]] == ["gone", "good", "bad", "broken"]
    assert [entry["reachable"] for entry in run.report["hosts"]] == [False, True, True, True]
    assert '"bad:postgres.ready"' in failures.partition("CUSTOM STATS")[2]


@pytest.mark.parametrize(
    ("fail_on", "failed"),
    [("never", [0, 0, 0]), ("warning", [0, 1, 1]), ("critical", [0, 0, 1])],
)
def test_the_line_is_where_it_is_drawn(tmp_path: Path, fail_on: str, failed: list[int]) -> None:
    warning = registered([probe_result("tls.served", "nginx", "nginx:443", 10, "10 days left")])
    run = play(
        tmp_path,
        {"good": healthy(), "warned": warning, "bad": troubled()},
        {"fail_on": fail_on, "formats": ["table"]},
    )
    assert run.code == (2 if any(failed) else 0), run.output
    assert [run.counted(name)["failed"] for name in ("good", "warned", "bad")] == failed
    assert not (tmp_path / "reports").exists()


def test_a_report_that_cannot_be_written_is_still_printed(tmp_path: Path) -> None:
    (tmp_path / "reports").write_text("a file in the way")
    run = play(tmp_path, {"node1": troubled()}, {})
    assert run.code == 2
    table, _separator, failure = run.output.partition("the report could not be written")
    assert "CRITICAL  postgres.ready" in table
    assert "-e pynomaly_report_dir=FOLDER" in failure
    assert "Traceback" not in run.output


def test_check_mode_reports_too_and_hostile_text_stays_text(tmp_path: Path) -> None:
    outcome = hostile()
    outcome["results"][0]["message"] = HOSTILE + " {{ 6 * 7 }} {% raw %}"
    outcome["results"][2]["value"] = None  # a module cannot answer NaN
    outcome["results"][1]["message"] = "no surrogate"
    run = play(tmp_path, {"node1": outcome}, {"run_id": "job/4711"}, ("--check",))
    assert run.code == 2, run.output
    assert "\x1b[31mred" not in run.output
    assert "\u202e" not in run.output.split("TASK [Fail on")[0]
    assert run.report["hosts"][0]["results"][0]["message"].endswith("{{ 6 * 7 }} {% raw %}")
    assert list((tmp_path / "reports").glob("daily_check-*Z-job4711.json"))


def test_colour_where_ansible_has_colour(tmp_path: Path) -> None:
    run = play(tmp_path, {"node1": troubled()}, {"formats": ["table"]}, ANSIBLE_FORCE_COLOR="1")
    assert "\x1b[0;31m  CRITICAL  postgres.ready" in run.output
    assert "\x1b[0;33m  WARNING   tls.served" in run.output


def test_hosts_that_were_skipped_or_never_checked(tmp_path: Path) -> None:
    run = play(tmp_path, {"node1": healthy()}, {}, ("-e", '{"skipped_by_us": true}'))
    assert run.code == 0, run.output
    assert run.report["hosts"][0]["status"] == "skipped"
    run = play(tmp_path, {"node1": healthy()}, {"variable": "never_registered"})
    assert run.code == 2
    assert "it did not run on this host" in run.output
    given = {"variable": None, "hosts": {"node1": healthy(), "node7": None}}
    run = play(tmp_path, {"node1": healthy()}, given)
    assert [entry["name"] for entry in run.report["hosts"]] == ["node1", "node7"]
    assert run.report["hosts"][1]["status"] == "critical"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"contacts": [{"name": "On-call"}]}, "contacts: seen {'name': 'On-call'}, expected a"),
        ({"started_at": "yesterday"}, "started_at: seen 'yesterday', expected ISO 8601"),
        ({"fail_on": "sometimes"}, "value of fail_on must be one of"),
        ({"hosts": {"a": None}}, "expected one of variable and hosts"),
        ({"variable": None}, "expected one of variable and hosts"),
        ({"colour": "blue"}, "Unsupported parameters"),
        ({"variable": None, "hosts": {"a": "fine"}}, "seen str for a, expected what a task"),
    ],
)
def test_arguments_that_make_no_sense(
    tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    run = play(tmp_path, {"node1": healthy()}, arguments)
    assert run.code == 2
    assert message in " ".join(run.output.split()), run.output
    assert "Traceback" not in run.output
    assert not (tmp_path / "reports").exists()


def test_the_version_of_a_checkout_and_of_an_installed_collection(tmp_path: Path) -> None:
    assert collection_version(tmp_path) == ""
    (tmp_path / "galaxy.yml").write_text('namespace: a\nversion: "1.2.3"\n')
    assert collection_version(tmp_path) == "1.2.3"
    (tmp_path / "MANIFEST.json").write_text('{"collection_info": {"version": "1.2.4"}}')
    assert collection_version(tmp_path) == "1.2.4"
