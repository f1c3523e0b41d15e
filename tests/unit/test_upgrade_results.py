# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the callback shows while a campaign runs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ansible.executor.task_result import CallbackTaskResult
from unit.campaign_rig import CAMPAIGN, REQUEST, TARGET, Rig
from unit.list_broker import Clock, ListBroker

from ansible_collections.isolift.vm.plugins.callback import upgrade_results
from ansible_collections.isolift.vm.plugins.callback.upgrade_results import (
    COORDINATE,
    START,
    CallbackModule,
    Live,
)
from ansible_collections.isolift.vm.plugins.module_utils.broker_errors import BrokerError, BrokerLost
from ansible_collections.isolift.vm.plugins.module_utils.broker_options import BrokerOptions
from ansible_collections.isolift.vm.plugins.module_utils.wire import Result, encode
from lab.waiting import wait_until

SUCCEEDED = Result("succeeded", version_before="1.0.0", version_after=TARGET)


@pytest.mark.parametrize(
    ("live", "vms", "mode"),
    [
        ("auto", 20, "all"),
        ("auto", 21, "outcomes"),
        ("auto", 200, "outcomes"),
        ("auto", 201, "summary"),
        ("all", 10_000, "all"),
        ("summary", 1, "summary"),
    ],
)
def test_a_large_campaign_is_not_followed_vm_by_vm_unless_asked_for(live: str, vms: int, mode: str) -> None:
    assert CallbackModule.mode(live, vms) == mode


def shown(mode: str) -> list[str]:
    """What is shown of a VM that asks for its upgrade and succeeds, each change told twice."""
    lines: list[str] = []
    live = Live(mode, lines.append)
    rig = Rig(2)
    for report in (REQUEST, SUCCEEDED):
        rig.agent(report, vm=0)
        changed = {rig.upgrade(0).vm}
        live.changed(rig.campaign, changed)
        live.changed(rig.campaign, changed)
    return lines


def test_every_change_is_shown_once() -> None:
    first, last = shown("all")
    assert "requested" in first and "succeeded" in last


def test_outcomes_alone_are_shown_once() -> None:
    (only,) = shown("outcomes")
    assert "succeeded" in only and "desk-0" in only


class Screen:
    """What Ansible would show."""

    def __init__(self) -> None:
        self.shown: list[str] = []
        self.warnings: list[str] = []

    def display(self, text: str) -> None:
        self.shown.append(text)

    def warning(self, text: str) -> None:
        self.warnings.append(text)


class Play:
    """A play that begins a campaign of one VM and coordinates it, with the callback looking on.

    :param connections: what comes of the callback's tries to connect; the last of all later ones too.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *connections: ListBroker | BrokerError) -> None:
        self.tries = 0
        self._connections = list(connections)
        monkeypatch.setattr(upgrade_results, "Broker", self._connect)
        monkeypatch.setattr(upgrade_results, "RETRY_S", 0.01)
        self.screen = Screen()
        self.callback = CallbackModule()
        self.callback._display = self.screen
        monkeypatch.setattr(self.callback, "get_option", lambda _name: "auto")
        campaign = {"campaign_id": CAMPAIGN, "selected": 1}
        self.callback.v2_runner_on_ok(ended(START, campaign, broker_password="secret"))

    def _connect(self, _options: BrokerOptions) -> ListBroker:
        self.tries += 1
        found = self._connections.pop(0) if len(self._connections) > 1 else self._connections[0]
        if isinstance(found, BrokerError):
            raise found
        return found

    def coordinate(self) -> None:
        """The task begins."""
        self.callback.v2_playbook_on_task_start(task(COORDINATE), is_conditional=False)

    def succeed(self) -> None:
        """The task ends well, with a table of its own."""
        self.callback.v2_runner_on_ok(ended(COORDINATE, {"table": ["the task's own table"]}))

    def fail(self) -> None:
        """The task fails."""
        self.callback.v2_runner_on_failed(ended(COORDINATE, {"failed": True}))


def task(action: str) -> SimpleNamespace:
    return SimpleNamespace(action=action, resolved_action=action, check_mode=False)


def ended(action: str, result: dict[str, Any], **arguments: Any) -> SimpleNamespace:
    return SimpleNamespace(task=task(action), result=result, task_fields={"args": arguments})


def journal_of(rig: Rig) -> ListBroker:
    """A broker that holds the journal of a campaign."""
    return ListBroker(Clock(), [encode(record) for record in rig.journal])


def under_way() -> Rig:
    """A campaign whose VM has asked for its upgrade."""
    rig = Rig()
    rig.agent(REQUEST)
    return rig


def closed() -> Rig:
    """A campaign that is over."""
    rig = under_way()
    rig.agent(SUCCEEDED)
    rig.settle()
    return rig


OWN_TABLE = "\nthe task's own table"


def test_at_the_end_the_table_is_the_journals(monkeypatch: pytest.MonkeyPatch) -> None:
    play = Play(monkeypatch, journal_of(closed()))
    play.coordinate()
    play.succeed()
    assert play.screen.shown[-1].endswith("1 selected = 1 succeeded")
    assert not play.screen.warnings


def test_the_table_is_read_without_making_plain_values_of_all_results() -> None:
    returned = {"table": ["5 selected = 5 succeeded"], "results": [{"name": "desk-0"}]}
    result = CallbackTaskResult(None, task(COORDINATE), returned, {})
    callback = CallbackModule()
    callback._display = screen = Screen()
    callback.v2_runner_on_ok(result)
    assert screen.shown == ["\n5 selected = 5 succeeded"]
    assert "result" not in vars(result), "Ansible's property made them"


def test_a_broker_that_comes_back_leaves_no_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    play = Play(monkeypatch, BrokerLost("it restarts"), BrokerLost("it restarts"), journal_of(closed()))
    play.coordinate()
    play.succeed()
    assert play.screen.shown[-1].endswith("1 selected = 1 succeeded")
    assert not play.screen.warnings


def test_without_pika_it_says_so_once_and_shows_the_tasks_own_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upgrade_results, "PIKA_ERROR", "ImportError")
    play = Play(monkeypatch, journal_of(closed()))
    for _campaign in range(2):
        play.coordinate()
        play.succeed()
    (warning,) = play.screen.warnings
    assert "pika is missing" in warning
    assert play.screen.shown == [OWN_TABLE, OWN_TABLE]


def test_a_broker_that_refuses_is_told_once_and_the_tasks_own_table_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    play = Play(monkeypatch, BrokerError("no permission to read"))
    for _campaign in range(2):
        play.coordinate()
        play.succeed()
    assert play.screen.warnings == ["upgrade_results shows no live results: no permission to read"]
    assert play.screen.shown == [OWN_TABLE, OWN_TABLE]


def test_a_broker_that_stays_away_is_told_once_and_the_tasks_own_table_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(upgrade_results, "FINISH_S", 0.0)
    play = Play(monkeypatch, BrokerLost("it is gone"))
    for _campaign in range(2):
        play.tries = 0
        play.coordinate()
        wait_until(lambda: play.tries > 1, what="two tries to connect", timeout=30)
        play.succeed()
    assert play.screen.warnings == ["upgrade_results shows no live results: it is gone"]
    assert play.screen.shown == [OWN_TABLE, OWN_TABLE]


def test_a_journal_whose_end_does_not_come_leaves_it_to_the_tasks_own_table(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(upgrade_results, "FINISH_S", 0.0)
    play = Play(monkeypatch, journal_of(under_way()))
    play.coordinate()
    play.succeed()
    assert play.screen.shown[-1] == OWN_TABLE
    assert not play.screen.warnings


def test_when_the_coordinator_fails_the_table_says_how_far_the_campaign_came(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(upgrade_results, "FINISH_S", 0.0)
    play = Play(monkeypatch, journal_of(under_way()))
    play.coordinate()
    wait_until(lambda: bool(play.screen.shown), what="the request to be shown", timeout=30)
    play.fail()
    assert play.screen.shown[-1].endswith("1 selected = 1 requested")
    assert not play.screen.warnings


def test_when_the_coordinator_fails_with_the_broker_there_is_the_warning_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    play = Play(monkeypatch, BrokerError("no permission to read"))
    play.coordinate()
    play.fail()
    assert len(play.screen.warnings) == 1
    assert not play.screen.shown
