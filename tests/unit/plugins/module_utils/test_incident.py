# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Incidents: which one a run belongs to, what is written of it, what is told of it."""

from __future__ import annotations

import datetime
import json
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.incident_store import (
    IncidentStore,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.incidents import (
    Incidents,
    describe,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.operation_store import (
    OperationStore,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.temporary_states import (
    TemporaryStates,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._incident import (
    BLOCK,
    CLOSED,
    FAILED,
    ISOLATION,
    MAINTENANCE,
    NEW,
    Bundle,
    Incident,
    IncidentError,
    Measure,
    check_identifier,
    choose,
    closed,
    command_line,
    decode_incident,
    decode_timeline,
    encode_entry,
    encode_incident,
    measure_of,
    new_identifier,
    new_incident,
    next_steps,
    report_tables,
    results_of,
    timeline_entry,
    with_measures,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._operation import RunIdentity

NOW = datetime.datetime(2026, 11, 24, 14, 5, 6, tzinfo=datetime.timezone.utc)
ANNA = RunIdentity("4f3c9a1b-77aa-4c0e", "anna", "control")
BEN = RunIdentity("b0000000-77aa-4c0e", "ben", "awx", awx_job_id="17")
ATTACKER = Measure(BLOCK, "203.0.113.7")
API = Measure(ISOLATION, "api")
PAGE = Measure(MAINTENANCE)


def incident(identifier: str = "20261124-4f3c9a1b", **more: Any) -> Incident:
    made = new_incident(identifier, "pynomaly", "scanning", ANNA, NOW)
    return Incident(**{**vars(made), **more})


# Which one


def test_an_id_says_the_day_and_the_run_and_is_no_other_s() -> None:
    assert new_identifier(NOW, ANNA.run_id, []) == "20261124-4f3c9a1b"
    taken = ["20261124-4f3c9a1b", "20261124-4f3c9a1b-2"]
    assert new_identifier(NOW, ANNA.run_id, taken) == "20261124-4f3c9a1b-3"
    assert new_identifier(NOW, "///", []) == "20261124-run"


@pytest.mark.parametrize("text", ["", "..", "../x", "a/b", ".x", "a b", "a\n", "x" * 65, "-e"])
def test_an_id_is_the_name_of_a_folder(text: str) -> None:
    with pytest.raises(IncidentError, match="expected an id"):
        check_identifier(text)


def test_the_open_incident_is_added_to_and_none_is_opened_beside_it_unasked() -> None:
    one = incident()
    others = [
        incident("older", status=CLOSED),
        incident("foreign", project="somebody"),
    ]
    assert choose([*others, one], "pynomaly", "") == one
    assert choose([*others, one], "pynomaly", one.identifier) == one
    assert choose(others, "pynomaly", "") is None
    assert choose([*others, one], "pynomaly", NEW) is None


def test_of_two_that_are_open_one_has_to_be_named() -> None:
    two = [incident("a"), incident("b")]
    with pytest.raises(IncidentError, match="2 are open: a, b; expected: to be told") as caught:
        choose(two, "pynomaly", "")
    assert caught.value.hint == "name it: -e incident=b"
    assert choose(two, "pynomaly", "a") == two[0]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("missing", "there is no such one"),
        ("foreign", "belongs to project somebody"),
        ("over", "seen: closed at 2026-11-24T15:00:00.000Z by ben@awx"),
        ("../../etc", "expected an id"),
    ],
)
def test_an_incident_that_cannot_be_added_to_is_refused(asked: str, message: str) -> None:
    known = [
        incident("foreign", project="somebody"),
        incident("over", status=CLOSED, closed_at="2026-11-24T15:00:00.000Z", closed_by="ben@awx"),
    ]
    with pytest.raises(IncidentError, match=message):
        choose(known, "pynomaly", asked)


def test_measures_are_kept_once_and_in_their_order() -> None:
    one = with_measures(incident(), [ATTACKER, PAGE, ATTACKER])
    assert one.measures == (ATTACKER, PAGE)
    assert with_measures(one, [API], [ATTACKER]).measures == (PAGE, API)
    assert with_measures(one, removed=[API]) == one


@pytest.mark.parametrize(
    ("released", "left"),
    [
        ("203.0.113.7/32", ["203.0.113.0/28", "2001:db8::/48"]),
        ("203.0.113.0/24", ["2001:db8::/48"]),
        ("2001:db8::/32", ["203.0.113.7", "203.0.113.0/28"]),
        ("2001:db8:0:1::/64", ["203.0.113.7", "203.0.113.0/28", "2001:db8::/48"]),
        ("all", []),
        ("nonsense", ["203.0.113.7", "203.0.113.0/28", "2001:db8::/48"]),
    ],
)
def test_a_network_is_released_with_all_within_it(released: str, left: list[str]) -> None:
    blocks = [measure_of(BLOCK, one) for one in ("203.0.113.7", "203.0.113.0/28", "2001:db8::/48")]
    one = with_measures(incident(), [*blocks, API])
    rest = with_measures(one, removed=[measure_of(BLOCK, released)])
    assert [one.target for one in rest.measures] == [*left, "api"]


def test_a_network_has_one_name() -> None:
    assert measure_of(BLOCK, " 203.0.113.7/32") == ATTACKER
    assert measure_of(BLOCK, "2001:DB8:0::/48").target == "2001:db8::/48"
    assert measure_of(ISOLATION, "10.0.0.1/32").target == "10.0.0.1/32"


def test_an_incident_is_not_closed_while_something_contains_it() -> None:
    contained = with_measures(incident(), [ATTACKER, PAGE])
    with pytest.raises(IncidentError, match=r"by block 203\.0\.113\.7, maintenance; ") as caught:
        closed(contained, BEN, NOW)
    assert "incident_release -e incident=20261124-4f3c9a1b" in caught.value.hint
    done = closed(incident(), BEN, NOW)
    assert (done.status, done.closed_by) == (CLOSED, "ben@awx (AWX job 17)")


# As text


def test_an_incident_is_read_as_it_was_written() -> None:
    one = with_measures(incident(reason="„x“\n"), [ATTACKER, PAGE])
    assert decode_incident(encode_incident(one).encode()) == one


@pytest.mark.parametrize(
    "change",
    [{"status": "odd"}, {"opened_at": "once"}, {"measures": [1]}, {"identifier": "../x"}],
)
def test_what_is_no_incident_is_refused(change: dict[str, Any]) -> None:
    raw = {**json.loads(encode_incident(incident())), **change}
    with pytest.raises(ValueError, match=r"."):
        decode_incident(json.dumps(raw).encode())
    with pytest.raises(ValueError, match=r"."):
        decode_incident(b"[]")


def test_a_torn_line_hides_no_other() -> None:
    lines = [encode_entry(timeline_entry(NOW, ANNA, BLOCK, text)) for text in ("a", "b")]
    entries, damaged = decode_timeline([lines[0], lines[0][:30], b"\n", b"{}\n", lines[1]])
    assert [entry["what"] for entry in entries] == ["a", "b"]
    assert damaged == [2, 4]
    assert entries[0]["time"] == "2026-11-24T14:05:06.000Z"
    assert (entries[0]["who"], entries[0]["outcome"]) == ("anna@control", "done")


def test_an_entry_says_something_that_is_known() -> None:
    for event, what, outcome in (("odd", "x", "done"), (BLOCK, "", "done"), (BLOCK, "x", "odd")):
        with pytest.raises(IncidentError):
            timeline_entry(NOW, ANNA, event, what, outcome=outcome)
    with pytest.raises(IncidentError, match="65536 an entry"):
        encode_entry(timeline_entry(NOW, ANNA, BLOCK, "x" * 70000))


def test_a_command_can_be_pasted() -> None:
    given = {"block": ["203.0.113.7", "2001:db8::/48"], "reason": "it's $(rm)", "for": ""}
    line = command_line("incident_contain", given, "a-1", "some shop")
    assert shlex.split(line) == [
        *("ansible-playbook", "pynomaly.ops.incident_contain"),
        *("-e", "block=203.0.113.7,2001:db8::/48", "-e", "reason=it's $(rm)"),
        *("-e", "incident=a-1", "-e", "pynomaly_project_name=some shop"),
    ]
    assert "project" not in command_line("blocklist", {}, "", "pynomaly")


# What is told


def entries() -> list[dict[str, str]]:
    return [
        timeline_entry(NOW, ANNA, "opened", "scanning", command="one"),
        timeline_entry(NOW, ANNA, "evidence", "12 files"),
        timeline_entry(NOW, BEN, BLOCK, "203.0.113.7 is blocked", command="two"),
        timeline_entry(NOW, BEN, ISOLATION, "no such service", outcome=FAILED, command="two"),
    ]


def test_the_results_of_a_run_are_its_own_entries() -> None:
    found = results_of(entries(), ANNA.run_id, "")
    assert [(one["id"], one["status"], one["message"]) for one in found] == [
        ("incident.opened", "ok", "scanning"),
        ("incident.evidence", "ok", "12 files"),
    ]
    found = results_of(entries(), BEN.run_id, "told once")
    assert [one["status"] for one in found] == ["ok", "critical"]
    (failed,) = results_of([], BEN.run_id, "refused: 127.0.0.1 is loopback")
    assert (failed["id"], failed["status"]) == ("incident.failed", "critical")
    assert failed["message"] == "refused: 127.0.0.1 is loopback"


def test_the_tables_tell_what_comes_next_and_what_was_done() -> None:
    bundles = [Bundle("/var/lib/pynomaly-ops/incidents/a/evidence/b", 12, 3456, "ab" * 32)]
    state = {
        "temporary_state": "maintenance_page",
        "time": "2026-11-24T14:00:06.000Z",
        "summary": "page until then",
        "undo": "undo it",
    }
    tables = {one["title"]: one for one in report_tables(incident(), entries(), bundles, [state])}
    assert list(tables)[:2] == ["Next steps", "Timeline"]
    assert tables["Timeline"]["rows"][2] == [
        "2026-11-24 14:05:06 UTC",
        "ben@awx (AWX job 17)",
        "done",
        "203.0.113.7 is blocked",
    ]
    assert [row[2] for row in tables["Commands"]["rows"]] == ["one", "two"]
    assert tables["Evidence folders"]["rows"] == [[12, 3456, "ab" * 32, bundles[0].path]]
    assert tables["Open temporary states"]["rows"] == [
        [
            "maintenance_page",
            "2026-11-24 14:00:06 UTC",
            "page until then",
            "undo it",
        ]
    ]
    for table in tables.values():
        assert all(len(row) == len(table["columns"]) for row in table["rows"])


def test_the_next_steps_fit_the_incident() -> None:
    bundle = Bundle("/x/a b", 1, 1, "")
    commands = [command for _step, command in next_steps(incident(project="shop"), [bundle])]
    assert commands[0] == "cd '/x/a b' && sha256sum -c --quiet SHA256SUMS"
    assert (
        "ansible-playbook pynomaly.ops.incident_recover -e confirm=recover:shop "
        "-e incident=20261124-4f3c9a1b -e pynomaly_project_name=shop"
    ) in commands
    assert [command for _step, command in next_steps(incident(status=CLOSED), [])] == [
        "ansible-playbook pynomaly.ops.daily_check"
    ]


# On disk


def opened(state_dir: Path, identity: RunIdentity = ANNA, dry_run: bool = False) -> Incidents:
    return Incidents(IncidentStore(str(state_dir)), identity, "pynomaly", dry_run)


def test_runs_add_to_one_incident_until_it_is_closed(tmp_path: Path) -> None:
    first = opened(tmp_path).open("", "scanning", [ATTACKER], "one")
    assert (first["changed"], first["opened"]) == (True, True)
    again = opened(tmp_path, BEN).open("", "another reason", [ATTACKER])
    assert (again["changed"], again["opened"], again["id"]) == (False, False, first["id"])
    more = opened(tmp_path, BEN).open("", "", [PAGE])
    assert (more["changed"], more["opened"], more["id"]) == (True, False, first["id"])
    opened(tmp_path, BEN).note("", MAINTENANCE, "the page is shown", command="two")
    with pytest.raises(IncidentError, match="still contained by"):
        opened(tmp_path, BEN).close("", "over")
    opened(tmp_path, BEN).note("", "release", "released", released=[ATTACKER])
    done = opened(tmp_path, BEN).close("", "over", released=[PAGE])
    assert (done["changed"], done["incident"]["status"]) == (True, "closed")
    assert opened(tmp_path).close(first["id"], "over")["changed"] is False
    assert opened(tmp_path).close("", "over")["id"] == ""

    told = describe(str(tmp_path), "pynomaly", first["id"])
    assert [(one["event"], one["what"]) for one in told["timeline"]] == [
        ("opened", "opened: scanning"),
        ("maintenance", "the page is shown"),
        ("release", "released"),
        ("closed", "over"),
    ]
    another = opened(tmp_path, BEN).open("", "again")
    assert another["opened"] is True
    assert another["id"] != first["id"]


def test_files_are_root_s_alone(tmp_path: Path) -> None:
    folder = Path(opened(tmp_path).open("", "scanning")["folder"])
    assert {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()} == {
        "incident.json": 0o600,
        "timeline.jsonl": 0o600,
    }
    for path in (folder, folder.parent):
        assert path.stat().st_mode & 0o777 == 0o700


def test_check_mode_writes_nothing(tmp_path: Path) -> None:
    foreseen = opened(tmp_path, dry_run=True).open("", "scanning", [ATTACKER])
    assert (foreseen["changed"], foreseen["opened"]) == (True, True)
    assert list(tmp_path.iterdir()) == []
    made = opened(tmp_path).open("", "scanning", [ATTACKER])
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert opened(tmp_path, dry_run=True).open("", "", [PAGE])["changed"] is True
    opened(tmp_path, dry_run=True).note("", "note", "x", released=[ATTACKER])
    opened(tmp_path, dry_run=True).close(made["id"], "over", released=[ATTACKER])
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_run_that_dies_before_its_first_entry_leaves_one_incident(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(IncidentStore, "append", die)
        with pytest.raises(KeyboardInterrupt):
            opened(tmp_path).open("", "scanning", [ATTACKER])
    again = opened(tmp_path, BEN).open("", "scanning", [ATTACKER])
    assert (again["opened"], again["incident"]["measures"]) == (
        False,
        ({"kind": "block", "target": "203.0.113.7"},),
    )
    opened(tmp_path, BEN).note("", "note", "goes on")
    assert [one["what"] for one in describe(str(tmp_path), "pynomaly", "")["timeline"]] == [
        "goes on"
    ]


def test_nothing_is_noted_where_no_incident_is_open(tmp_path: Path) -> None:
    answer = opened(tmp_path).note("", "note", "x")
    assert (answer["changed"], answer["id"], answer["lines"]) == (
        False,
        "",
        ["no incident is open"],
    )
    assert list(tmp_path.iterdir()) == []


def test_a_line_that_a_power_cut_tore_keeps_a_line_to_itself(tmp_path: Path) -> None:
    folder = Path(opened(tmp_path).open("", "scanning")["folder"])
    with (folder / "timeline.jsonl").open("ab") as file:
        file.write(b'{"time": "20')
    opened(tmp_path).note("", "note", "after it")
    told = describe(str(tmp_path), "pynomaly", "")
    assert [one["what"] for one in told["timeline"]] == ["opened: scanning", "after it"]
    assert told["remarks"] == [f"{folder}: unreadable timeline lines [2]"]


def test_a_timeline_that_is_a_link_is_not_written_through(tmp_path: Path) -> None:
    folder = Path(opened(tmp_path).open("", "scanning")["folder"])
    elsewhere = tmp_path / "elsewhere"
    (folder / "timeline.jsonl").unlink()
    (folder / "timeline.jsonl").symlink_to(elsewhere)
    with pytest.raises(IncidentError, match="timeline could not be written") as caught:
        opened(tmp_path).note("", "note", "x")
    assert "ls -la" in caught.value.hint
    assert not elsewhere.exists()


def test_one_that_cannot_be_read_hides_no_other(tmp_path: Path) -> None:
    broken = tmp_path / "incidents" / "broken"
    broken.mkdir(parents=True)
    (broken / "incident.json").write_text("{")
    (tmp_path / "incidents" / "half").mkdir()
    answer = opened(tmp_path).open("", "scanning")
    assert answer["opened"] is True
    assert len(answer["remarks"]) == 1
    assert "broken/incident.json is no incident" in answer["remarks"][0]


def test_evidence_counts_once_it_is_whole(tmp_path: Path) -> None:
    folder = Path(opened(tmp_path).open("", "scanning")["folder"])
    whole = folder / "evidence" / "20261124T140506Z-incident_contain"
    (whole / "logs").mkdir(parents=True)
    (whole / "logs" / "api.log").write_text("12345")
    (whole / "logs" / "link").symlink_to("/etc/passwd")
    sums = subprocess.run(
        ["sha256sum", "logs/api.log"], cwd=whole, capture_output=True, check=True, timeout=10
    ).stdout
    (whole / "SHA256SUMS").write_bytes(sums)
    (folder / "evidence" / ".partial-x").mkdir()
    told = describe(str(tmp_path), "pynomaly", "")
    (bundle,) = told["evidence"]
    digest = subprocess.run(
        ["sha256sum", "SHA256SUMS"], cwd=whole, capture_output=True, check=True, timeout=10
    ).stdout.decode()[:64]
    assert bundle == {
        "path": str(whole),
        "files": 2,
        "size_bytes": 5 + len(sums),
        "digest": digest,
    }


def test_what_a_report_is_given_has_results_and_what_others_tell(tmp_path: Path) -> None:
    nothing = describe(str(tmp_path), "pynomaly", "", tables=[{"title": "Blocked addresses"}])
    assert [one["message"] for one in nothing["results"]] == [
        "nothing was to be done; no incident is open"
    ]
    assert nothing["tables"] == [{"title": "Blocked addresses"}]
    opened(tmp_path).open("", "scanning", [ATTACKER])
    TemporaryStates(OperationStore(str(tmp_path)), ANNA, "incident_contain", "pynomaly").open(
        "maintenance_page", "page until then"
    )
    told = describe(str(tmp_path), "pynomaly", "", run_id=ANNA.run_id, failure="refused")
    assert [one["status"] for one in told["results"]] == ["ok", "critical"]
    (states,) = [one for one in told["tables"] if one["title"] == "Open temporary states"]
    assert states["rows"][0][0] == "maintenance_page"
    assert told["facts"]["contained_by"] == "block 203.0.113.7"
    assert told["facts"]["reason"] == "scanning"
