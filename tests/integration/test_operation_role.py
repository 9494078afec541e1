# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role C{operation} in real runs of C{ansible-playbook} on local connections."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.operation_store import (
    OperationStore,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._operation import (
    Lock,
    RunIdentity,
    summarize_operations,
)

RUN_TIMEOUT_SECONDS = 120
CANARY = "canary-4b1d"
BOB = RunIdentity("7c110000-0000-4000-8000-000000000002", "bob", "ws2", "2.19.14")

PLAY = """
- name: Deploy
  hosts: all
  gather_facts: false
  serial: "{{ batch | default(0) }}"
  vars:
    operation_name: deploy
  tasks:
    - name: Deploy under the lock
      block:
        - name: Take the lock
          ansible.builtin.include_role:
            name: pynomaly.ops.operation
            tasks_from: lock

        - name: Act
          ansible.builtin.include_tasks: "{{ playbook_dir }}/act.yml"
      rescue:
        - name: Keep the error and fail with it
          ansible.builtin.include_role:
            name: pynomaly.ops.operation
            tasks_from: fail
      always:
        - name: Release the lock
          ansible.builtin.include_role:
            name: pynomaly.ops.operation
            tasks_from: unlock
          vars:
            operation_changed: true
            operation_summary: version 1.3
            operation_undo: ansible-playbook pynomaly.ops.rollback
"""

SUCCEED = """
- name: Succeed
  ansible.builtin.command:
    argv: ["true"]
  changed_when: false
"""

FAIL = """
- name: Pull the images
  ansible.builtin.command:
    argv: [sh, -c, "echo no such image >&2; exit 3"]
"""

FAIL_SECRETLY = f"""
- name: Set the password
  ansible.builtin.command:
    argv: [sh, -c, "echo {CANARY} >&2; exit 3"]
  no_log: true
"""

FAIL_ON_SECOND = """
- name: Fail on one host
  ansible.builtin.fail:
    msg: this host is broken
  when: inventory_hostname == 'node2'
"""

BECOME_UNREACHABLE = """
- name: Lose the connection
  ansible.builtin.ping:
  vars:
    ansible_connection: ssh
    ansible_host: 127.0.0.1
    ansible_port: 1
"""

#: Tells that it has begun, then waits to be let go, a minute at most.
WAIT = """
- name: Work for a long time
  ansible.builtin.command:
    argv: [timeout, "60", sh, -c, "touch {begun}; while ! test -e {go_on}; do sleep 0.1; done"]
"""

NEST = """
- name: Back up inside the deployment
  block:
    - name: Take the lock again
      ansible.builtin.include_role:
        name: pynomaly.ops.operation
        tasks_from: lock
  always:
    - name: Release nothing
      ansible.builtin.include_role:
        name: pynomaly.ops.operation
        tasks_from: unlock
  vars:
    operation_name: backup

- name: Look for the lock
  ansible.builtin.command:
    argv: [test, -s, "{{ pynomaly_state_dir }}/lock.json"]
  changed_when: false
"""

TEMPORARY = """
- name: Write down the maintenance page
  ansible.builtin.include_role:
    name: pynomaly.ops.operation
    tasks_from: record
  vars:
    operation_event: temporary_opened
    operation_temporary_state: maintenance_page
    operation_undo: ansible-playbook pynomaly.ops.live
    operation_details: {"container": "nginx"}

- name: Write down that it is gone
  ansible.builtin.include_role:
    name: pynomaly.ops.operation
    tasks_from: record
  vars:
    operation_event: temporary_closed
    operation_temporary_state: maintenance_page
  when: close_page | bool
"""

GUARD = """
- name: Restore
  hosts: all
  gather_facts: false
  vars:
    operation_name: restore
  tasks:
    - name: Ask for the word
      ansible.builtin.include_role:
        name: pynomaly.ops.operation
        tasks_from: guard

    - name: Destroy
      ansible.builtin.file:
        path: "{{ playbook_dir }}/destroyed"
        state: touch
        mode: "0600"
"""


class Site:
    """A directory with playbooks, a state directory for each host, and a way to run them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "deploy.yml").write_text(f"---{PLAY}")
        together = PLAY.replace("  vars:\n", "  any_errors_fatal: true\n  vars:\n", 1)
        (directory / "together.yml").write_text(f"---{together}")
        (directory / "guard.yml").write_text(f"---{GUARD}")
        self.act(SUCCEED)

    def act(self, tasks: str) -> None:
        (self.directory / "act.yml").write_text(f"---{tasks}")

    def store(self, host: str = "node1") -> OperationStore:
        return OperationStore(str(self.directory / "state" / host))

    def outcomes(self, host: str = "node1") -> list[str]:
        lock, journal = self.store(host).read()
        return [entry.outcome for entry in summarize_operations(journal.records, lock)]

    def start(self, playbook: str, hosts: str = "node1,", **variables: Any) -> Any:
        extra = {
            "ansible_python_interpreter": sys.executable,
            "pynomaly_state_dir": f"{self.directory}/state/{{{{ inventory_hostname }}}}",
            **variables,
        }
        check = ["--check"] if extra.pop("check", False) else []
        arguments = ["-i", hosts, "-c", "local", "-e", json.dumps(extra), *check, playbook]
        return subprocess.Popen(
            [str(Path(sys.executable).with_name("ansible-playbook")), *arguments],
            cwd=self.directory,
            env={**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_LOCALHOST_WARNING": "false",
                 "SUDO_USER": "alice", "ANSIBLE_INVENTORY_UNPARSED_WARNING": "false",
                 "ANSIBLE_HOME": str(self.directory / "home")},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )  # fmt: skip

    def run(self, playbook: str, hosts: str = "node1,", **variables: Any) -> tuple[int, str]:
        process = self.start(playbook, hosts, **variables)
        try:
            output, _none = process.communicate(timeout=RUN_TIMEOUT_SECONDS)
        finally:
            process.kill()
        return process.returncode, output


@pytest.fixture()
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def wait_for(condition: Callable[[], bool], what: str, timeout_seconds: float = 60) -> None:
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come within {timeout_seconds} s"
        time.sleep(0.05)


def hold(site: Site, host: str = "node1") -> Lock:
    acquired = site.store(host).acquire(
        BOB, "restore", "pynomaly", host=host, playbook="pynomaly.ops.restore"
    )
    return acquired.lock


def test_success_is_recorded_and_counts_as_no_change(site: Site) -> None:
    code, output = site.run("deploy.yml")
    assert code == 0, output
    assert "changed=0" in output
    lock, journal = site.store().read()
    assert lock is None
    (entry,) = summarize_operations(journal.records, lock)
    assert (entry.operation, entry.project, entry.user) == ("deploy", "pynomaly", "alice")
    assert (entry.outcome, entry.changed, entry.summary) == ("finished", True, "version 1.3")
    assert entry.undo == "ansible-playbook pynomaly.ops.rollback"
    code, output = site.run("pynomaly.ops.history")
    assert code == 0, output
    assert re.search(r"deploy +pynomaly +alice@\S+ +finished", output)
    assert "undo: ansible-playbook pynomaly.ops.rollback" in output
    assert "lock: none" in output


def test_failure_keeps_its_message_and_exit_code_and_releases_the_lock(site: Site) -> None:
    site.act(FAIL)
    code, output = site.run("deploy.yml")
    assert code == 2
    assert output.count("no such image") >= 2
    assert '"msg": "Pull the images: non-zero return code: no such image"' in output
    assert "failed=1" in output and "rescued=1" in output
    lock, journal = site.store().read()
    assert lock is None
    (entry,) = summarize_operations(journal.records, lock)
    assert entry.outcome == "failed"
    assert entry.summary == "Pull the images: non-zero return code: no such image"
    site.act(SUCCEED)
    assert site.run("deploy.yml")[0] == 0
    assert site.outcomes() == ["failed", "finished"]


def test_failure_without_a_rescue_is_recorded_as_failure_too(site: Site) -> None:
    before, _rescue, rest = PLAY.partition("      rescue:\n")
    always = rest[rest.index("      always:\n") :]
    (site.directory / "deploy.yml").write_text(f"---{before}{always}")
    site.act(FAIL)
    code, output = site.run("deploy.yml")
    assert code == 2 and "rescued=0" in output
    assert site.store().read_lock() is None
    assert site.outcomes() == ["failed"]


def test_error_of_a_secret_task_is_in_no_output_and_no_journal(site: Site) -> None:
    site.act(FAIL_SECRETLY)
    code, output = site.run("deploy.yml")
    assert code == 2
    assert CANARY not in output
    assert "Set the password: the error is hidden" in output
    assert site.outcomes() == ["failed"]
    written = [path for path in (site.directory / "state").rglob("*") if path.is_file()]
    assert written
    assert not [path for path in written if CANARY.encode() in path.read_bytes()]


def test_held_lock_stops_a_second_run_with_the_facts(site: Site) -> None:
    hold(site)
    site.act(FAIL)
    before = site.store().journal_path.read_bytes()
    code, output = site.run("deploy.yml")
    assert code == 2
    assert "what: host node1 is locked; seen: restore of pynomaly by bob@ws2 since" in output
    assert f"ansible-playbook pynomaly.ops.deploy -e pynomaly_takeover={BOB.run_id}" in output
    assert "no such image" not in output
    assert site.store().journal_path.read_bytes() == before
    lock = site.store().read_lock()
    assert isinstance(lock, Lock) and lock.run_id == BOB.run_id


def test_takeover_takes_the_run_that_was_seen_and_no_other(site: Site) -> None:
    hold(site)
    code, output = site.run("deploy.yml", pynomaly_takeover="3f2a0000")
    assert code == 2
    assert "was not taken over" in output and BOB.run_id in output
    code, output = site.run("deploy.yml", pynomaly_takeover=BOB.run_id)
    assert code == 0, output
    assert site.store().read_lock() is None
    assert site.outcomes() == ["taken over", "finished"]


def test_check_mode_writes_nothing_and_warns_of_a_held_lock(site: Site) -> None:
    code, output = site.run("deploy.yml", check=True)
    assert code == 0, output
    assert not (site.directory / "state").exists()
    hold(site)
    before = {path.name: path.read_bytes() for path in site.store().directory.iterdir()}
    code, output = site.run("deploy.yml", check=True)
    assert code == 0, output
    flat = " ".join(output.split())
    assert "[WARNING]" in flat
    assert "host node1 is locked; seen: restore of pynomaly by bob@ws2" in flat
    assert {path.name: path.read_bytes() for path in site.store().directory.iterdir()} == before


def test_killed_controller_leaves_the_lock_and_takeover_follows(site: Site) -> None:
    begun, go_on = site.directory / "begun", site.directory / "go_on"
    site.act(WAIT.format(begun=begun, go_on=go_on))
    process = site.start("deploy.yml")
    try:
        wait_for(begun.exists, "the beginning of the work")
        process.send_signal(signal.SIGKILL)
        process.wait(RUN_TIMEOUT_SECONDS)
    finally:
        go_on.touch()
        process.kill()
        process.stdout.close()
    lock = site.store().read_lock()
    assert isinstance(lock, Lock) and lock.user == "alice"
    assert site.outcomes() == ["running"]
    site.act(SUCCEED)
    code, output = site.run("deploy.yml")
    assert code == 2 and f"pynomaly_takeover={lock.run_id}" in output
    code, output = site.run("deploy.yml", pynomaly_takeover=lock.run_id)
    assert code == 0, output
    assert site.outcomes() == ["taken over", "finished"]
    code, output = site.run("pynomaly.ops.history")
    assert code == 0 and "taken over" in output and "taken over by run" in output


def test_host_lost_in_mid_run_keeps_its_lock(site: Site) -> None:
    site.act(BECOME_UNREACHABLE)
    code, output = site.run("deploy.yml")
    assert code == 4 and "unreachable=1" in output
    assert site.store().read_lock() is not None
    assert site.outcomes() == ["running"]


def test_nested_operation_of_the_same_run_leaves_the_outer_lock(site: Site) -> None:
    site.act(NEST)
    code, output = site.run("deploy.yml")
    assert code == 0, output
    assert site.store().read_lock() is None
    records = site.store().read()[1].records
    assert [(entry["operation"], entry["event"]) for entry in records] == [
        ("deploy", "started"),
        ("backup", "started"),
        ("backup", "finished"),
        ("deploy", "finished"),
    ]


def test_all_hosts_and_batches_of_a_run_share_its_id_and_each_has_its_outcome(site: Site) -> None:
    site.act(FAIL_ON_SECOND)
    hosts = ["node1", "node2", "node3"]
    code, output = site.run("deploy.yml", hosts=",".join(hosts), batch=1)
    assert code == 2, output
    code, output = site.run("deploy.yml", hosts="node1,node2,node3")
    assert code == 2, output
    assert site.outcomes("node1") == ["finished", "finished"]
    assert site.outcomes("node2") == ["failed", "failed"]
    assert site.outcomes("node3") == ["finished"]
    runs = {
        host: [entry["run_id"] for entry in site.store(host).read()[1].records] for host in hosts
    }
    assert runs["node1"] == runs["node2"]
    assert runs["node1"][2:] == runs["node3"]
    assert runs["node1"][0] == runs["node1"][1] != runs["node1"][2] == runs["node1"][3]
    assert [site.store(host).read_lock() for host in hosts] == [None] * 3


def test_run_id_is_one_for_batches_and_plays(site: Site) -> None:
    (site.directory / "twice.yml").write_text(f"---{PLAY}{PLAY}")
    hosts = ["node1", "node2", "node3"]
    code, output = site.run("twice.yml", hosts=",".join(hosts), batch=1)
    assert code == 0, output
    runs = {entry["run_id"] for host in hosts for entry in site.store(host).read()[1].records}
    assert len(runs) == 1
    assert all(site.outcomes(host) == ["finished", "finished"] for host in hosts)


def test_error_that_is_fatal_for_all_is_an_outcome_for_all(site: Site) -> None:
    site.act(FAIL_ON_SECOND)
    code, output = site.run("together.yml", hosts="node1,node2,node3")
    assert code == 2 and "this host is broken" in output
    summaries = {}
    for host in ("node1", "node2", "node3"):
        lock, journal = site.store(host).read()
        assert lock is None
        (entry,) = summarize_operations(journal.records, lock)
        assert entry.outcome == "failed"
        summaries[host] = entry.summary
    assert summaries["node2"] == "Fail on one host: this host is broken"
    assert summaries["node1"] == summaries["node3"]
    assert summaries["node1"].startswith("stopped, because another host failed")


def test_lock_held_on_one_host_is_given_back_on_the_others(site: Site) -> None:
    hold(site, "node2")
    code, output = site.run("together.yml", hosts="node1,node2,node3")
    assert code == 2, output
    assert site.store("node1").read_lock() is None
    assert site.store("node3").read_lock() is None
    lock = site.store("node2").read_lock()
    assert isinstance(lock, Lock) and lock.run_id == BOB.run_id


def test_temporary_states_are_shown_until_they_are_closed(site: Site) -> None:
    site.act(TEMPORARY)
    code, output = site.run("deploy.yml", close_page=False)
    assert code == 0, output
    code, output = site.run("pynomaly.ops.history")
    assert code == 0, output
    assert "left open: maintenance_page of pynomaly since" in output
    assert "undo: ansible-playbook pynomaly.ops.live" in output
    code, output = site.run("deploy.yml", close_page=True)
    assert code == 0, output
    events = [entry["event"] for entry in site.store().read()[1].records]
    assert events.count("temporary_opened") == events.count("temporary_closed") == 1
    assert "left open" not in site.run("pynomaly.ops.history")[1]


def test_awx_user_and_job_are_who_did_it(site: Site) -> None:
    code, output = site.run("deploy.yml", awx_user_name="carol", awx_job_id=42)
    assert code == 0, output
    (entry,) = summarize_operations(site.store().read()[1].records, None)
    assert (entry.user, entry.awx_job_id) == ("carol", "42")


def test_history_selects_limits_and_says_when_there_is_nothing(site: Site) -> None:
    code, output = site.run("pynomaly.ops.history")
    assert code == 0 and "nothing has been recorded on this host" in output
    assert not (site.directory / "state").exists()
    for _number in range(2):
        assert site.run("deploy.yml")[0] == 0
    assert "(1 of 2 operations" in site.run("pynomaly.ops.history", history_limit=1)[1]
    code, output = site.run("pynomaly.ops.history", history_operation="backup")
    assert code == 0 and "nothing that was recorded on this host matches" in output
    code, output = site.run("pynomaly.ops.history", history_since="yesterday")
    assert code == 2 and "expected a period like 24h or 7d" in output
    code, output = site.run("pynomaly.ops.history", history_limit=-1)
    assert code == 2 and "expected 0 (for all) or more" in output


def test_history_of_a_damaged_journal_shows_the_rest(site: Site) -> None:
    assert site.run("deploy.yml")[0] == 0
    with site.store().journal_path.open("ab") as journal:
        journal.write(b'{"event": "star')
    code, output = site.run("pynomaly.ops.history")
    assert code == 0, output
    assert "journal: 1 damaged line" in output and "finished" in output


@pytest.mark.skipif(
    not Path("/var/run/docker.sock").exists(), reason="status asks the Docker engine: none is here"
)
def test_status_shows_the_lock_and_what_was_left_open(site: Site) -> None:
    site.act(TEMPORARY)
    assert site.run("deploy.yml", close_page=False)[0] == 0
    hold(site)
    code, output = site.run("pynomaly.ops.status", pynomaly_project_name="no-such-project")
    assert code == 0, output
    assert "no-such-project" in output
    assert "lock: restore of pynomaly by bob@ws2 since" in output
    assert "left open: maintenance_page of pynomaly since" in output


@pytest.mark.parametrize("word", [None, "yes", "restore:other", "rollback:pynomaly"])
def test_without_the_word_nothing_is_touched(site: Site, word: Any) -> None:
    variables = {} if word is None else {"confirm": word}
    code, output = site.run("guard.yml", **variables)
    assert code == 2
    seen = "no confirm" if word is None else f"confirm={word}"
    assert f"nothing was touched; seen: {seen}; expected: confirm=restore:pynomaly" in output
    assert "ansible-playbook pynomaly.ops.restore -e confirm=restore:pynomaly" in output
    assert not (site.directory / "destroyed").exists()


def test_the_word_lets_the_operation_go_on(site: Site) -> None:
    code, output = site.run("guard.yml", confirm="restore:pynomaly")
    assert code == 0, output
    assert (site.directory / "destroyed").exists()
