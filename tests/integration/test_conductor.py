# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Conductors whose connection breaks or freezes, and two that want the same campaign; on a real RabbitMQ."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest
from integration.campaign_run import Run, wait_for
from integration.journals import TARGET, Journals, Relay, opened, vms
from integration.proxy import Proxy

from ansible_collections.isolift.vm.plugins.module_utils import conductor as conducting
from ansible_collections.isolift.vm.plugins.module_utils.broker import Broker
from ansible_collections.isolift.vm.plugins.module_utils.broker_errors import BrokerLost
from ansible_collections.isolift.vm.plugins.module_utils.conductor import Conductor
from ansible_collections.isolift.vm.plugins.module_utils.coordinator import Coordinator
from ansible_collections.isolift.vm.plugins.module_utils.records import Claim
from ansible_collections.isolift.vm.plugins.module_utils.wire import Request, Result

SUCCEEDED = Result("succeeded", version_before="1.0.0", version_after=TARGET, exit_code=0)


class LinkedRun(Run):
    """A run with a link to the broker that can be cut."""

    def __init__(self, journals: Journals, campaign: str, host: str) -> None:
        super().__init__(self._over_link, campaign, host)
        self._options = journals.options
        self._stack = ExitStack()
        self._links: list[Proxy] = []
        self.cut_off = False

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        self._stack.close()

    def _over_link(self) -> Broker:
        if self.cut_off:
            raise BrokerLost("cut off")
        proxy = self._stack.enter_context(Proxy(self._options.host, self._options.port))
        self._links.append(proxy)
        return Broker(replace(self._options, host="127.0.0.1", port=proxy.port))

    def cut(self) -> None:
        """The connection breaks."""
        self._links[-1].cut()


@pytest.fixture
def campaign(journals_of_test: Journals) -> Iterator[tuple[str, str, Relay]]:
    """A campaign that was begun for one VM; its ID, the VM, and the VM's relay."""
    rows = vms(1)
    campaign = journals_of_test.campaign()
    relay = journals_of_test.relay(campaign, [rows[0][0]])
    with Broker(journals_of_test.options) as broker:
        Coordinator(broker, campaign, "start", "control").begin(opened(120.0), rows)
    yield campaign, rows[0][0], relay


def claims(journals: Journals, campaign: str) -> list[tuple[int, str]]:
    _folded, records = journals.fold(campaign)
    return [(one.epoch, one.payload.host) for one in records if isinstance(one.payload, Claim)]


def test_a_connection_that_breaks_is_made_again_and_the_campaign_goes_on(
    journals_of_test: Journals, campaign: tuple[str, str, Relay]
) -> None:
    name, vm, relay = campaign
    with LinkedRun(journals_of_test, name, "alpha") as run:
        relay.report(vm, Request("1.0.0"))
        wait_for(lambda: run.counts == {"notified": 1}, "the permit")
        run.cut()
        wait_for(lambda: run.has_said("RabbitMQ is back"), "the second connection")
        relay.report(vm, SUCCEEDED)
        assert run.wait().counts() == {"succeeded": 1}
    assert [epoch for epoch, _host in claims(journals_of_test, name)] == [1, 2, 3]
    assert not run.has_said("lost it")


def test_a_second_run_follows_and_takes_over_when_the_first_is_gone(
    journals_of_test: Journals, campaign: tuple[str, str, Relay], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conducting, "FOLLOW_S", 0.5)
    name, vm, relay = campaign
    with (
        LinkedRun(journals_of_test, name, "alpha") as first,
        LinkedRun(journals_of_test, name, "beta") as second,
    ):
        wait_for(lambda: bool(first.said or second.said), "one of them to follow")
        leader, follower = (first, second) if second.said else (second, first)
        assert follower.has_said("is conducted by a run on")
        relay.report(vm, Request("1.0.0"))
        wait_for(lambda: follower.counts == leader.counts == {"notified": 1}, "both to see the permit")
        assert len(claims(journals_of_test, name)) == 2
        leader.cut_off = True
        leader.cut()
        wait_for(lambda: len(claims(journals_of_test, name)) > 2, "a claim after the break")
        assert claims(journals_of_test, name)[2][1] == ("alpha" if follower is first else "beta")
        relay.report(vm, SUCCEEDED)
        assert follower.wait().counts() == {"succeeded": 1}
        leader.cut_off = False
        assert first.wait().counts() == second.wait().counts() == {"succeeded": 1}
    _folded, records = journals_of_test.fold(name)
    assert [record.payload.TYPE for record in records].count("closed") == 1


def test_who_comes_back_to_a_campaign_that_was_taken_says_that_it_lost_it_and_follows(
    journals_of_test: Journals, campaign: tuple[str, str, Relay]
) -> None:
    name, vm, relay = campaign
    with LinkedRun(journals_of_test, name, "alpha") as run:
        wait_for(lambda: len(claims(journals_of_test, name)) == 2, "the first claim")
        with Broker(journals_of_test.options) as broker:
            other = Coordinator(broker, name, "other", "beta")
            other.catch_up()
            other._claim()
            wait_for(lambda: run.has_said("has taken campaign"), "the loss to be said")
            assert run.has_said("on beta")
        relay.report(vm, SUCCEEDED)
        assert run.wait().counts() == {"succeeded": 1}


def test_a_broker_that_never_answers_is_an_error_after_a_while(
    journals_of_test: Journals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conducting, "FIRST_S", 0.5)
    said: list[str] = []
    options = replace(journals_of_test.options, host="127.0.0.1", port=9, timeout=2.0)
    conductor = Conductor(
        lambda: Broker(options),
        journals_of_test.campaign(),
        "alpha",
        lambda _o: lambda _f: "",
        lambda _c: None,
        said.append,
    )
    with pytest.raises(BrokerLost, match="127.0.0.1:9"):
        conductor.run()
    assert len(said) == 1 and "trying again" in said[0]
