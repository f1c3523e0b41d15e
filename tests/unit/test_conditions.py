# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Conditions: an operator's expressions, a hostile guest's facts, and reasons that a person can read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit import wire_values
from unit.safety import harmless

from ansible_collections.isolift.vm.plugins.module_utils.conditions import (
    KNOWN_FACTS,
    ConditionError,
    Conditions,
)
from ansible_collections.isolift.vm.plugins.module_utils.text import printable
from ansible_collections.isolift.vm.plugins.modules import upgrade_start
from isolift_agent import facts

FACTS: dict[str, Any] = {
    "installed_version": "1.4.2",
    "os_id": "debian",
    "free_bytes": 600 * 1024 * 1024,
    "sessions": 0,
    "load": 0.25,
    "is_virtual": True,
}

USUAL = [
    "free_bytes > 500 * 1024 * 1024",
    "sessions == 0 or installed_version is version('1.5', '<')",
    "os_id in ['debian', 'ubuntu'] and not (load > 1)",
    "is_virtual",
    "os_id | upper == 'DEBIAN'",
    "installed_version.startswith('1.')",
    "sessions is defined and windows is not defined",
]

HOSTILE = [
    "{{ 7 * 7 }}",
    "{% for x in range(9) %}x{% endfor %}",
    "{0.__class__.__init__.__globals__}",
    "%(x)s%n%999999999d",
    "\x1b[2J\x07\r\n\u202e\u2028",
    "x" * 256,
    "__import__('os').system('true')",
    "' or 1 == 1 or '",
]

ESCAPES = [
    "fact.__class__",
    "''.__class__.__mro__[1].__subclasses__()",
    "fact.__class__.__mro__",
    "'{0.__class__.__mro__}'.format(fact) == '' or '{0.__class__}'.format(fact)",
    "fact | attr('__class__')",
    "[fact] | map(attribute='__class__') | first",
    "[fact] | map('attr', '__class__') | first",
    "lipsum.__globals__['os'].popen('true').read()",
    "cycler.__init__.__globals__",
    "namespace.__init__.__globals__",
    "self.__init__.__globals__",
    "range.__self__",
    "(1).__class__.__base__.__subclasses__()",
    "''.join.__self__.__class__",
    "dict.fromkeys.__func__",
    "joiner.__call__.__globals__",
]


def reason(expression: str, facts: dict[str, Any] | None = None) -> str:
    return Conditions([expression]).judge(FACTS if facts is None else facts)


# What operators write.


@pytest.mark.parametrize("expression", USUAL)
def test_a_condition_that_holds_gives_no_reason(expression: str) -> None:
    assert reason(expression) == ""


def test_all_conditions_must_hold_and_the_first_that_does_not_is_the_reason() -> None:
    assert Conditions(USUAL).judge(FACTS) == ""
    assert Conditions([]).judge(FACTS) == ""
    judged = Conditions(["sessions == 0", "load > 3", "sessions == 1"]).judge(FACTS)
    assert judged == "condition not met: load > 3 (load=0.25)"


def test_the_reason_names_the_facts_that_the_condition_looked_at_and_no_others() -> None:
    judged = reason("free_bytes > 2 ** 40 and os_id == 'debian'")
    assert judged == (
        "condition not met: free_bytes > 2 ** 40 and os_id == 'debian' (free_bytes=629145600, os_id='debian')"
    )


def test_a_fact_that_is_not_there_is_named() -> None:
    assert (
        reason("free_inodes > 5") == "condition cannot be judged: free_inodes > 5: 'free_inodes' is undefined"
    )


@pytest.mark.parametrize(
    "expression", ["free_inodes", "not free_inodes", "free_inodes == 'x'", "free_inodes | int"]
)
def test_a_fact_that_is_not_there_is_never_taken_for_false_or_empty(expression: str) -> None:
    assert "undefined" in reason(expression)


@pytest.mark.parametrize(
    ("expression", "holds"),
    [
        ("v is version('1.10.0')", True),
        ("v is version('1.10.0', '==')", True),
        ("v is version('1.9', '>')", True),
        ("v is version('1.9', '<')", False),
        ("v is version('1.10.0', '<=')", True),
        ("v is version('1.10.0', '>=')", True),
        ("v is version('1.10.0', '!=')", False),
        ("v is not version('1.9', '<')", True),
    ],
)
def test_versions_are_compared_as_versions(expression: str, holds: bool) -> None:
    assert (reason(expression, {"v": "1.10.0"}) == "") is holds


def test_a_comparison_that_does_not_exist_is_named_with_those_that_do() -> None:
    judged = reason("v is version('1', '=>')", {"v": "1"})
    assert "'=>'" in judged and "==, !=, <, <=, >, >=" in judged


def test_where_no_version_is_installed_the_reason_says_so_and_a_condition_can_allow_for_it() -> None:
    nothing = {"installed_version": ""}
    assert "there is no version to compare" in reason("installed_version is version('2', '<')", nothing)
    assert reason("installed_version == '' or installed_version is version('2', '<')", nothing) == ""


@pytest.mark.parametrize("versions", [("1.a", "1.2"), ("x", "1"), ("1..2", "1.2.a")])
def test_versions_that_cannot_be_compared_hold_the_vm_with_a_reason(versions: tuple[str, str]) -> None:
    judged = reason(f"v is version('{versions[1]}', '<')", {"v": versions[0]})
    assert judged == "" or judged.startswith("condition")


# What operators mistype.


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "  ",
        "free_bytes >",
        "free_bytes > > 5",
        "{{ free_bytes }}",
        "free_bytes }} {{ x",
        "a) or (b",
        "{% if x %}",
        "a = 1",
        "import os",
        "x | no_such_filter",
        "x is no_such_test",
        "'unfinished",
        "#",
        "(" * 200 + "1" + ")" * 200,
        "[" * 249 + "]" * 249,
        "-" * 480 + "1",
        "a" + ".a" * 199,
        "10 ** 5000",
    ],
)
def test_what_is_no_expression_is_refused_by_name_before_anything_begins(expression: str) -> None:
    with pytest.raises(ConditionError) as raised:
        Conditions(["true", expression])
    assert str(raised.value).startswith(f"condition {expression!r} is not a valid expression: ")


@pytest.mark.parametrize(
    "expression",
    ["1 / 0", "[][1]", "'a' + 1", "'a' < 1", "{}['x']", "none.x", "'a' * 10 ** 18 == ''", "[0] * 10 ** 18"],
)
def test_an_expression_that_goes_wrong_holds_the_vm_and_stops_nothing(expression: str) -> None:
    assert reason(expression).startswith(f"condition cannot be judged: {expression}: ")


@pytest.mark.parametrize("expression", ["free_byte > 5", "free_bytes > 5 and free_byte is not defined"])
def test_a_fact_that_no_agent_sends_is_refused_by_name_with_those_that_there_are(expression: str) -> None:
    with pytest.raises(ConditionError) as raised:
        Conditions(["sessions == 0", expression]).require_known_facts()
    said = str(raised.value)
    assert f"condition {expression!r} looks at free_byte, which no agent sends" in said
    assert all(fact in said for fact in KNOWN_FACTS)


@pytest.mark.parametrize(
    "expression",
    [*KNOWN_FACTS, "os_id | lower in ['debian']", "range(3) | list | length == 3", "[1, 2] | sum > sessions"],
)
def test_what_agents_send_and_what_jinja_has_may_be_looked_at(expression: str) -> None:
    Conditions([expression]).require_known_facts()


def test_the_known_facts_are_what_the_agent_sends_and_what_the_pages_list(tmp_path: Path) -> None:
    assert sorted({*facts.gather(tmp_path), "installed_version"}) == sorted(KNOWN_FACTS)
    page = (Path(__file__).resolve().parents[2] / "docs" / "upgrade.md").read_text()
    assert all(f"`{fact}`" in page and f"C({fact})" in upgrade_start.DOCUMENTATION for fact in KNOWN_FACTS)


# What hostile guests send.


@pytest.mark.parametrize("fact", HOSTILE)
def test_a_fact_is_never_taken_for_a_template(fact: str) -> None:
    assert reason("fact == expected", {"fact": fact, "expected": fact}) == ""
    judged = reason("fact == ''", {"fact": fact})
    assert judged == printable(f"condition not met: fact == '' (fact={fact!r})")
    assert harmless(judged) and len(judged) <= 300


@pytest.mark.parametrize("fact", HOSTILE)
@pytest.mark.parametrize("expression", ESCAPES)
def test_neither_expression_nor_fact_gets_out_of_the_sandbox(expression: str, fact: str) -> None:
    assert reason(expression, {"fact": fact}).startswith("condition cannot be judged: ")


@pytest.mark.parametrize("expression", ["facts.update({'a': 1})", "[1].append(2)", "{}.setdefault('a', 1)"])
def test_an_expression_changes_nothing(expression: str) -> None:
    assert reason(expression).startswith("condition cannot be judged: ")


def test_nobody_can_make_the_coordinator_count_to_a_thousand_million() -> None:
    assert "Range too big" in reason("range(10 ** 9) | list")


@pytest.mark.parametrize(
    "name",
    [
        "self",
        "environment",
        "context",
        "kwargs",
        "args",
        "range",
        "dict",
        "true",
        "None",
        "loop",
        "",
        " ",
        "a b",
    ],
)
def test_a_fact_may_have_any_name_without_getting_in_the_way(name: str) -> None:
    assert reason("sessions == 0", {name: 1, **FACTS}) == ""


def test_a_fact_may_be_called_as_the_engines_own_variable() -> None:
    assert reason("result == 7", {"result": 7}) == ""


@given(wire_values.Facts().values())
def test_whatever_facts_a_guest_sends_the_verdict_is_printable(facts: dict[str, Any]) -> None:
    conditions = Conditions(["free_bytes > 5", "sessions == 0", "installed_version is version('1.5', '<')"])
    for name in ("free_bytes", "sessions", "installed_version"):
        for value in list(facts.values())[:3]:
            judged = conditions.judge({**FACTS, **facts, name: value})
            assert len(judged) <= 300
            assert harmless(judged)


@given(st.text(max_size=60))
def test_any_text_is_an_expression_or_is_refused_as_none(expression: str) -> None:
    try:
        conditions = Conditions([expression])
    except ConditionError:
        return
    assert harmless(conditions.judge({}))
