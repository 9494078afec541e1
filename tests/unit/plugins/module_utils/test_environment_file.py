# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._environment_file import (
    HEADER,
    EnvironmentFileError,
    Secret,
    compose,
    encode,
    parse,
    plan,
    values,
)

ODD = "it's-a$b\"c@/:\\x #%zz${HOME}"


def never() -> str:
    raise AssertionError("nothing was to be generated")


def made() -> str:
    return "generated"


# What Docker Compose 2.26 made of these lines (docker compose config --format json), a dollar sign
# being written twice in its output.
COMPOSE_READS = [
    ("A='a$b#c \"d\" \\x $$ ${A}'\n", "A", 'a$b#c "d" \\x $$ ${A}'),
    ("B='it\\'s'\n", "B", "it's"),
    ('C="dq \\" \\\\ \\$HOME $$x back\\\\"\n', "C", 'dq " \\ $HOME $x back\\'),
    ("D=bare$$dollar\n", "D", "bare$dollar"),
    ('E="\\\\\' \\\\\\" tab\\\\t"\n', "E", "\\' \\\" tab\\t"),
    ('G="a\\\\\\\\b"\n', "G", "a\\\\b"),
]


@pytest.mark.parametrize(("line", "name", "expected"), COMPOSE_READS)
def test_a_line_is_read_as_compose_reads_it(line: str, name: str, expected: str) -> None:
    assert values(parse(line)) == {name: expected}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("NAME=value", "value"),
        ("NAME = spaced # a comment", "spaced"),
        ("NAME=with#hash", "with#hash"),
        ("NAME=# all comment", ""),
        ("NAME=", ""),
        ("export NAME=value", "value"),
        ("NAME: value", "value"),
        ('NAME="two\\nlines"', "two\nlines"),
        ('NAME="odd \\q escape"', "odd \\q escape"),
        ("NAME='keeps \\n'", "keeps \\n"),
        ("NAME=price$", "price$"),
        ("NAME=$OTHER", None),
        ("NAME=${OTHER:-x}", None),
        ('NAME="a ${OTHER}"', None),
    ],
)
def test_forms_of_an_assignment(line: str, expected: str | None) -> None:
    assert values(parse(line + "\n")) == {"NAME": expected}


def test_every_line_is_kept() -> None:
    text = "# comment\n\nA='two\nlines'\nnot an assignment\n  #B=1\nC=3"
    entries = parse(text)
    assert "".join(entry.raw for entry in entries) == text
    assert values(entries) == {"A": "two\nlines", "C": "3"}


def test_a_quote_that_is_not_closed_is_named_by_its_line() -> None:
    with pytest.raises(EnvironmentFileError, match="line 2: the quote after B= is not closed"):
        parse("A=1\nB='x\\'\nC=3\n")


@pytest.mark.parametrize(
    "value",
    ["plain", "a b", "$", "$$", "a#b", "it's", '"', "\\", "end\\", "\\'", "${A}", ODD, "ünï", "-x"],
)
def test_what_is_written_is_read_back(value: str) -> None:
    line = f"NAME={encode(value)}\n"
    assert "\n" not in line[:-1]
    assert values(parse(line)) == {"NAME": value}


def test_a_value_on_several_lines_is_refused() -> None:
    with pytest.raises(EnvironmentFileError, match="line end"):
        encode("two\nlines")


def test_a_composed_value_encodes_for_a_url() -> None:
    known = {"USER": "me", "PASSWORD": "p@s/s"}
    assert (
        compose("redis://{USER}:{quote(PASSWORD)}@host/0", known) == "redis://me:p%40s%2Fs@host/0"
    )


def test_a_composed_value_of_an_unknown_name_is_refused() -> None:
    with pytest.raises(EnvironmentFileError, match="OTHER is used"):
        compose("{OTHER}", {})


def test_a_new_file_has_a_header_generated_and_given_values() -> None:
    outcome = plan(
        None,
        [Secret("A"), Secret("B", "given")],
        {"URL": "x://{quote(B)}"},
        made,
    )
    assert outcome.text == f"{HEADER}A=generated\nB=given\nURL=x://given\n"
    assert outcome.generated == ("A",)
    assert outcome.updated == ("B", "URL")


def test_a_second_run_changes_nothing() -> None:
    secrets = [Secret("A"), Secret("B", ODD)]
    composed = {"URL": "x://{quote(B)}"}
    first = plan(None, secrets, composed, made)
    second = plan(first.text, secrets, composed, never)
    assert second.text == first.text
    assert (second.generated, second.updated) == ((), ())


def test_a_given_value_that_is_taken_away_stays_stored() -> None:
    assert plan("A=mine\n", [Secret("A")], {}, never).text == "A=mine\n"


def test_the_last_assignment_is_the_one_that_is_replaced() -> None:
    outcome = plan("A=1\n# kept\nA=2\nB=3", [Secret("A", "new"), Secret("C")], {}, made)
    assert outcome.text == "A=1\n# kept\nA=new\nB=3\nC=generated\n"
    assert (outcome.generated, outcome.updated) == (("C",), ("A",))


def test_an_empty_stored_value_counts_as_missing() -> None:
    assert plan("A=\n", [Secret("A")], {}, made).text == "A=generated\n"


def test_a_sealed_secret_does_not_change() -> None:
    sealed = Secret("A", "new", "it counted once", "my_variable")
    with pytest.raises(EnvironmentFileError) as caught:
        plan("A=old\n", [sealed], {}, never)
    assert "stored with another value than my_variable gives" in str(caught.value)
    assert "it counted once" in str(caught.value)
    assert "old" not in str(caught.value)
    assert "new" not in str(caught.value)


def test_a_sealed_secret_that_is_lost_has_to_be_given() -> None:
    with pytest.raises(EnvironmentFileError, match="Give the value in use as a"):
        plan("", [Secret("A", None, "it counted once")], {}, never)
    assert plan("", [Secret("A", "known", "it counted once")], {}, never).text == "A=known\n"


def test_a_sealed_secret_given_as_it_is_stored_is_fine() -> None:
    text = f"A={encode(ODD)}\n"
    assert plan(text, [Secret("A", ODD, "it counted once")], {}, never).text == text


def test_an_interpolated_secret_is_refused() -> None:
    with pytest.raises(EnvironmentFileError, match="A is made of other variables"):
        plan("A=$B\n", [Secret("A")], {}, never)


@pytest.mark.parametrize("secrets", [[Secret("not a name")], [Secret("1A")]])
def test_a_name_that_is_none_is_refused(secrets: list[Secret]) -> None:
    with pytest.raises(EnvironmentFileError, match="is not a variable's name"):
        plan("", secrets, {}, made)


def test_a_composed_name_that_is_none_is_refused() -> None:
    with pytest.raises(EnvironmentFileError, match="is not a variable's name"):
        plan("", [], {"no name": "x"}, made)


def test_no_value_is_in_a_representation() -> None:
    secret = Secret("A", "hush")
    outcome = plan("B='hush'\n", [secret], {}, never)
    assert "hush" not in repr((secret, outcome, parse(outcome.text)))
