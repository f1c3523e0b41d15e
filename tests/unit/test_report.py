# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A campaign's results as data, as lines and as a table; whatever guests put into them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit import wire_values
from unit.campaign_rig import BEGIN, CAMPAIGN, DEADLINE, OPENED, REQUEST, TARGET, Rig, rows, vm_uuid
from unit.safety import harmless

from ansible_collections.isolift.vm.plugins.module_utils.campaign import Campaign
from ansible_collections.isolift.vm.plugins.module_utils.media import Reason
from ansible_collections.isolift.vm.plugins.module_utils.records import Row
from ansible_collections.isolift.vm.plugins.module_utils.report import (
    LISTED_MOST,
    REASONS,
    campaign_table,
    closing_lines,
    discs_left,
    line,
    lines_of,
    result_of,
    sum_line,
    summary_of,
    table,
)
from ansible_collections.isolift.vm.plugins.module_utils.upgrade import INELIGIBLE_REASONS
from ansible_collections.isolift.vm.plugins.module_utils.wire import (
    Confirmation,
    Progress,
    Refused,
    Request,
    Result,
    Undeliverable,
)

SUCCEEDED = Result(
    "succeeded", version_before="1.0.0", version_after=TARGET, exit_code=0, duration_s=3.26, log_tail="a\nb\n"
)


def told() -> Rig:
    """Five VMs: one succeeded, one declined, one failed late, one is held and one was never heard of."""
    rig = Rig(5, judge=lambda facts: "" if facts.get("free_bytes") else "no room")
    for vm in range(3):
        rig.agent(REQUEST, vm=vm)
    rig.agent(Request("1.0.0"), vm=3)
    rig.settle()
    rig.now += 12.34
    rig.agent(Confirmation(1, "confirm"), SUCCEEDED, vm=0)
    rig.agent(Confirmation(1, "decline"), Result("declined", version_before="1.0.0"), vm=1)
    rig.agent(Result("failed", stage="install", code="exit_code", detail="it was 3", exit_code=3), vm=2)
    rig.agent(SUCCEEDED, vm=2)
    return rig


def results() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = summary_of(told().campaign)["results"]
    return found


def test_a_result_is_plain_data_with_everything_that_is_known() -> None:
    succeeded = results()[0]
    assert succeeded == {
        "upgrade_id": told().upgrade(0).upgrade_id,
        "vm": vm_uuid(0),
        "name": "desk-0",
        "node": "node0",
        "state": "succeeded",
        "final": True,
        "stage": "",
        "reason": "",
        "permit": 1,
        "version_before": "1.0.0",
        "version_after": TARGET,
        "exit_code": 0,
        "install_s": 3.3,
        "log_tail": ["a", "b"],
        "duration_s": 12.3,
        "late_outcome": "",
    }


def test_what_an_installer_printed_is_left_out_where_it_went_well_and_not_every_log_is_wanted() -> None:
    rig = Rig(2)
    rig.agent(SUCCEEDED, vm=0)
    rig.agent(Result("failed", log_tail="c\nd\n"), vm=1)
    summary = summary_of(rig.campaign, every_log=False)
    assert [(one["state"], one["log_tail"]) for one in summary["results"]] == [
        ("succeeded", []),
        ("failed", ["c", "d"]),
    ]


def test_what_is_not_known_yet_is_empty() -> None:
    held, pending = results()[3:]
    assert (held["state"], held["reason"], held["final"], held["version_before"]) == (
        "held",
        "no room",
        False,
        "1.0.0",
    )
    assert (pending["state"], pending["exit_code"], pending["duration_s"]) == ("pending", -1, 0.0)


def test_a_result_that_came_after_the_outcome_is_shown_beside_it() -> None:
    failed = results()[2]
    assert (failed["state"], failed["late_outcome"], failed["exit_code"]) == ("failed", "succeeded", 3)


def test_a_summary_says_what_the_campaign_is_and_adds_up() -> None:
    rig = told()
    rig.settle(DEADLINE - rig.now)
    summary = summary_of(rig.campaign)
    counts = {"succeeded": 1, "failed": 1, "declined": 1, "ineligible": 1, "unreachable": 1}
    assert summary["counts"] == counts
    assert sum(counts.values()) == summary["selected"] == len(summary["results"])
    assert (summary["campaign_id"], summary["component"], summary["target_version"]) == (
        CAMPAIGN,
        "guest-tools",
        TARGET,
    )
    assert (summary["finished"], summary["closed"], summary["problem"]) == (True, True, "")
    assert sum_line(summary["counts"]) == (
        "5 selected = 1 succeeded + 1 failed + 1 declined + 1 ineligible + 1 unreachable"
    )


def many(outcomes: dict[str, int]) -> dict[str, Any]:
    """The summary of a campaign with so many upgrades of each outcome."""
    pattern = results()[0]
    upgrades = [{**pattern, "state": state} for state, count in outcomes.items() for _each in range(count)]
    return {"campaign_id": CAMPAIGN, "results": upgrades, "counts": outcomes, "problem": ""}


def test_a_small_campaign_is_listed_as_a_whole_at_its_end() -> None:
    summary = many({"succeeded": LISTED_MOST - 1, "failed": 1})
    assert closing_lines(summary) == lines_of(summary)
    assert len(closing_lines(summary)) == 1 + LISTED_MOST + 1


def test_of_a_large_campaign_what_did_not_go_well_is_listed() -> None:
    header, *listed, rest, total = closing_lines(many({"succeeded": 9000, "up_to_date": 500, "failed": 3}))
    assert header.startswith("UPGRADE ID") and len(listed) == 3 and all(" failed " in line for line in listed)
    assert rest == (
        f"9500 more are not listed here, 0 of which did not succeed: status.yml -e campaign_id={CAMPAIGN} lists all"
    )
    assert total == "9503 selected = 9000 succeeded + 500 up_to_date + 3 failed"


def test_the_closing_table_of_a_failed_fleet_is_bounded_and_says_so() -> None:
    lines = closing_lines(many({"succeeded": 10, "failed": 5000}))
    assert len(lines) == 1 + LISTED_MOST + 2
    assert lines[-2].startswith(
        f"{5010 - LISTED_MOST} more are not listed here, {5000 - LISTED_MOST} of which did not succeed"
    )


def test_a_large_campaign_that_went_well_is_two_lines() -> None:
    assert len(closing_lines(many({"succeeded": 10_000}))) == 2


def test_a_campaign_that_was_never_sealed_says_so() -> None:
    sealed = told()
    unsealed = sealed.folded(records=sealed.journal[:2])
    assert summary_of(sealed.campaign)["problem"] == ""
    summary = summary_of(unsealed)
    assert (summary["selected"], "never sealed" in summary["problem"]) == (5, True)
    assert lines_of(summary)[-2:] == [summary["problem"], "5 selected = 5 pending"]


def test_a_campaign_that_was_never_opened_has_a_summary_too() -> None:
    summary = summary_of(Campaign(CAMPAIGN))
    assert (summary["selected"], summary["results"], summary["finished"]) == (0, [], False)
    assert sum_line(summary["counts"]) == "0 selected = 0"


def test_the_table_has_its_columns_one_below_the_other() -> None:
    header, *lines = table(results())
    assert header.split() == ["UPGRADE", "ID", "VM", "NODE", "OUTCOME", "VERSION", "TIME", "REASON"]
    for title, cell in {
        "VM": "desk-2",
        "NODE": "node0",
        "OUTCOME": "failed",
        "REASON": "install: it was 3",
    }.items():
        assert lines[2].startswith(cell, header.index(title))
    assert [text.split()[3] for text in lines] == ["succeeded", "declined", "failed", "held", "pending"]
    assert "1.0.0 -> 2.0.0" in lines[0]
    assert all(text == text.rstrip() for text in lines)


def test_a_table_of_nothing_is_its_header() -> None:
    assert len(table([])) == 1


def test_a_first_installation_says_that_nothing_was_there() -> None:
    rig = Rig()
    rig.agent(Result("succeeded", version_after=TARGET))
    assert "none -> 2.0.0" in line(result_of(rig.upgrade()))


def test_an_unchanged_version_is_named_once() -> None:
    rig = Rig()
    rig.agent(Result("up_to_date", version_before=TARGET, version_after=TARGET))
    assert line(result_of(rig.upgrade())).split()[4:] == [TARGET, "0.0", "s"]


# Reasons as a person reads them.


def told_as(stage: str, reason: str, state: str = "ineligible") -> str:
    result = {**results()[2], "state": state, "stage": stage, "reason": reason, "late_outcome": ""}
    return table([result])[1].split(" s  ", 1)[1]


@pytest.mark.parametrize(
    ("stage", "reason", "sentence"),
    [
        ("selection", "no_drive", "the domain has no CD-ROM drive"),
        (
            "media",
            "drive_in_use: the drive holds /a.iso, which is not ours",
            "the drive holds /a.iso, which is not ours",
        ),
        ("conditions", "condition not met: free_bytes > 5", "condition not met: free_bytes > 5"),
        (
            "start",
            "shut_off: no relay has it running",
            "not reached: the VM is shut off, or no relay runs on its node",
        ),
        (
            "prepare",
            "copy_failed: [Errno 5]",
            "prepare: the component could not be copied from the disc: [Errno 5]",
        ),
        ("install", "exit_code: it ended with 3", "install: it ended with 3"),
        ("novel", "new_code: detail", "novel: new_code: detail"),
    ],
)
def test_the_table_tells_codes_in_sentences(stage: str, reason: str, sentence: str) -> None:
    assert told_as(stage, reason).rstrip() == sentence


def test_every_code_of_a_drive_and_every_reason_to_be_ineligible_has_its_sentence() -> None:
    assert {reason.value for reason in Reason} | INELIGIBLE_REASONS <= set(REASONS)


# The list of campaigns.


def campaign_row(**changed: Any) -> dict[str, Any]:
    row = {
        "campaign_id": CAMPAIGN,
        "component": "guest-tools",
        "target_version": TARGET,
        "opened_at": 1_795_460_000.0,
        "opened_by": "control",
        "deadline": DEADLINE,
        "closed": False,
        "counts": {},
    }
    return {**row, **changed}


def test_the_table_of_campaigns_has_a_line_for_each() -> None:
    closed = campaign_row(closed=True, counts={"succeeded": 4, "declined": 1})
    header, *lines = campaign_table([campaign_row(), closed], DEADLINE - 1)
    assert header.split("  ")[0] == "CAMPAIGN ID"
    assert lines[0].split() == [
        CAMPAIGN,
        "guest-tools",
        TARGET,
        "open",
        *["2026-11-23", "18:53", "UTC"],
        "control",
        "-",
    ]
    assert lines[1].endswith("5 selected = 4 succeeded + 1 declined")
    assert all(text.index("control") == header.index("BY") for text in lines)


def test_an_open_campaign_past_its_deadline_is_overdue() -> None:
    assert " overdue " in campaign_table([campaign_row()], DEADLINE + 1)[1]


def test_no_text_of_a_campaign_reaches_a_terminal_as_it_is() -> None:
    row = campaign_row(component=POISON, target_version=POISON, opened_by=POISON)
    assert harmless(campaign_table([row], DEADLINE))


# Guest text.

POISON = "\x1b[2J\x9b1m\u202e\u2028\r\nx"


def poisoned() -> Rig:
    """Every text that a guest, a relay or a hypervisor may choose is poison."""
    rig = Rig(4)
    rig.agent(Request(POISON))
    rig.agent(
        Result(
            "succeeded",
            stage=POISON,
            code=POISON,
            detail=POISON,
            version_before=POISON,
            version_after=POISON,
            log_tail=POISON * 9,
        )
    )
    rig.agent(Result(POISON[:16]), vm=1)
    rig.agent(Result(POISON[:16]), vm=1)
    rig.relay(Undeliverable("start", "x", POISON, POISON), vm=2)
    rig.agent(Progress("busy", POISON), vm=3)
    rig.relay(Refused(POISON, POISON), vm=3)
    return rig


def test_no_text_of_a_guest_reaches_a_terminal_as_it_is() -> None:
    summary = summary_of(poisoned().campaign)
    assert harmless(summary)
    assert harmless(table(summary["results"]))
    assert harmless([line(result) for result in summary["results"]])
    assert "\\x1b[2J" in json.dumps(summary["results"][0]["log_tail"]).replace("\\\\", "\\")


def test_no_name_of_a_domain_reaches_a_terminal_as_it_is() -> None:
    campaign = Campaign(CAMPAIGN, "n")
    for record in campaign.opening(OPENED, [Row(vm_uuid(0), POISON, POISON)], BEGIN):
        campaign.apply(record)
    assert harmless(summary_of(campaign))


def test_a_long_log_is_cut_to_its_last_lines() -> None:
    rig = Rig()
    rig.agent(Result("failed", log_tail="\n".join(str(number) for number in range(900))))
    log = result_of(rig.upgrade())["log_tail"]
    assert (len(log), log[-1]) == (40, "899")


@given(st.lists(wire_values.payloads(), max_size=6))
def test_whatever_is_in_the_journal_the_report_is_harmless_and_its_lines_are_lines(
    payloads: list[Any],
) -> None:
    rig = Rig(2)
    for payload in payloads:
        rig.agent(payload)
    summary = summary_of(rig.campaign)
    assert harmless(summary)
    assert len(table(summary["results"])) == 1 + len(rows(2))
    json.dumps(summary)


# Discs that may be left.


def ended(name: str, state: str = "succeeded") -> dict[str, Any]:
    return {"vm": name, "name": name, "node": "node1", "state": state}


def ejected(name: str, status: str = "ejected", reason: str = "") -> dict[str, Any]:
    """What ejecting showed."""
    return {"vm": name, "name": name, "status": status, "reason": reason}


def on_node(*results: dict[str, Any], empty: Sequence[str] = ()) -> dict[str, Any]:
    """What a node returned that has these domains, and ``empty`` ones without the disc."""
    return {"results": list(results), "domains": [*(one["vm"] for one in results), *empty]}


@pytest.mark.parametrize(
    "ejections",
    [
        {"node1": on_node(ejected("a"))},
        {"node1": on_node(empty=["a"])},
        {"node2": on_node(ejected("a"))},
        {"node1": on_node(ejected("a")), "node2": on_node(ejected("a"))},
        {"node1": on_node(), "node2": on_node(empty=["a"])},
    ],
)
def test_a_disc_that_left_the_drive_on_whichever_node_is_not_left(ejections: dict[str, Any]) -> None:
    assert discs_left([ended("a", "unreachable")], ejections) == []


@pytest.mark.parametrize(
    ("state", "is_named"),
    [
        ("succeeded", False),
        ("declined", False),
        ("unreachable", True),
        ("expired", True),
        ("failed", True),
        ("interrupted", True),
    ],
)
def test_a_vm_that_no_node_has_any_more_may_have_taken_its_disc_along_unless_its_relay_saw_to_it(
    state: str, is_named: bool
) -> None:
    lines = discs_left([ended("a", state)], {"node1": on_node(), "node2": on_node(empty=["b"])})
    assert lines == (["a: it is on none of the nodes that were asked to eject"] if is_named else [])


def test_a_copy_of_a_vm_that_keeps_the_disc_is_named_too() -> None:
    copy, unreadable = (
        ejected("copy", "skipped", "tray_locked"),
        ejected("odd", "skipped", "media_error: no answer"),
    )
    assert discs_left([ended("a")], {"node1": on_node(ejected("a"), copy, unreadable)}) == [
        "copy: the guest holds the drive's tray locked"
    ]


def test_a_disc_that_may_be_left_is_named_with_its_vm_and_why() -> None:
    results = [ended("a"), ended("b"), ended("c", "timed_out"), ended("d"), ended("e")]
    locked = ejected("d", "skipped", "tray_locked")
    first, second = on_node(ejected("a"), empty=["e"]), on_node(locked, ejected("b"))
    assert discs_left(results, {"node1": first, "node2": second}) == [
        "c: timed out, and may still use its disc",
        "d: the guest holds the drive's tray locked",
    ]
    assert discs_left(results, {"node2": on_node(ejected("a"), ejected("b"), locked)})[2:] == [
        "e: its node node1 was not asked to eject",
    ]


def test_a_disc_that_stays_where_a_vm_moved_is_left_although_its_first_node_ejected() -> None:
    ejections = {"node1": on_node(ejected("a")), "node2": on_node(ejected("a", "skipped", "tray_locked"))}
    assert discs_left([ended("a")], ejections) == ["a: the guest holds the drive's tray locked"]


def test_of_many_discs_that_may_be_left_some_are_named_and_all_counted() -> None:
    (line,) = discs_left([ended(f"vm{number}") for number in range(5000)], {})
    assert line.startswith("vm0, vm1, ") and " and 4990 more: " in line and len(line) < 200
