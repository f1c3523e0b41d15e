# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The relay's libvirt and its shell when something goes wrong in an operation; libvirt's binding is played."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Coroutine
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from unit.libvirt_error import INVALID_CONNECTION, LibvirtError
from unit.relay_node import CAMPAIGN, START, VM, message

from isolift_relay import hypervisor, wire
from isolift_relay.config import BrokerConfig, Config
from isolift_relay.events import BrokerUp, ChannelUp, Delivery, DomainUp, Line, MediumDone
from isolift_relay.hypervisor import NO_DOMAIN, Hypervisor
from isolift_relay.media import Reason

DEADLINE_S = 10.0


@pytest.fixture
def domains(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The relay's module of this name, over a binding that has nothing but its error."""
    binding = SimpleNamespace(
        libvirtError=LibvirtError,
        VIR_DOMAIN_XML_INACTIVE=2,
        VIR_DOMAIN_EVENT_ID_LIFECYCLE=0,
        VIR_DOMAIN_EVENT_ID_DEVICE_ADDED=1,
        VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED=2,
    )
    monkeypatch.setitem(sys.modules, "libvirt", binding)
    monkeypatch.setattr(hypervisor, "libvirt", binding)
    for name in ("domains", "shell"):  # both are to be imported for this test only
        monkeypatch.setitem(sys.modules, f"isolift_relay.{name}", None)
        monkeypatch.delitem(sys.modules, f"isolift_relay.{name}")
    return importlib.import_module("isolift_relay.domains")


class Domain:
    """A running domain that is defined."""

    def __init__(self, name: str, uuid: str, xml: str) -> None:
        self._name, self._uuid, self._xml = name, uuid, xml

    def name(self) -> str:
        return self._name

    def UUIDString(self) -> str:
        return self._uuid

    def state(self) -> tuple[int, int]:
        return 1, 1

    def isActive(self) -> bool:
        return True

    def isPersistent(self) -> bool:
        return True

    def XMLDesc(self, _flags: int) -> str:
        return self._xml


class Connection:
    """libvirt with one domain. Once it was closed, every call raises, as the binding does."""

    def __init__(self, domain: Domain) -> None:
        self._domain = domain
        self.is_closed = False
        self.keepalive: tuple[int, int] | None = None

    def _find(self, is_it: bool) -> Domain:
        if self.is_closed:
            raise LibvirtError(INVALID_CONNECTION, "invalid connection pointer in virDomainLookup")
        if not is_it:
            raise LibvirtError(NO_DOMAIN, "Domain not found")
        return self._domain

    def lookupByUUIDString(self, uuid: str) -> Domain:
        return self._find(uuid == self._domain.UUIDString())

    def lookupByName(self, name: str) -> Domain:
        return self._find(name == self._domain.name())

    def isAlive(self) -> bool:
        if self.is_closed:
            raise LibvirtError(INVALID_CONNECTION, "invalid connection pointer in virConnectIsAlive")
        return True

    def registerCloseCallback(self, _callback: object, _opaque: object) -> None:
        """Nothing ever closes it."""

    def domainEventRegisterAny(self, *_arguments: object) -> None:
        """Nothing ever happens."""

    def setKeepAlive(self, interval: int, count: int) -> None:
        self.keepalive = (interval, count)


def run(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(story, DEADLINE_S))


def nobody(_event: object) -> None:
    """Listens to no domain."""


async def insertion(module: ModuleType, connection: Connection) -> MediumDone:
    """What comes of an insertion over this connection."""
    followed = module.Domains("test", "/var/lib/isolift/media", module.Listener(nobody, nobody))
    followed._hypervisor = Hypervisor(connection, "/var/lib/isolift/media")
    try:
        done = await followed.insert(VM, 7, __file__)
        assert isinstance(done, MediumDone)
        return done
    finally:
        followed.close()


def test_an_operation_over_a_connection_that_was_closed_meanwhile_is_answered(domains: ModuleType) -> None:
    async def story() -> None:
        connection = Connection(Domain("desk", VM, "<domain/>"))
        connection.is_closed = True
        done = await insertion(domains, connection)
        assert (done.number, done.reason) == (7, Reason.MEDIA_ERROR) and "went away" in done.detail

    run(story())


def test_an_operation_on_a_domain_that_cannot_be_read_is_answered(domains: ModuleType) -> None:
    async def story() -> None:
        done = await insertion(domains, Connection(Domain("desk", VM, "<domain")))
        assert done.reason is Reason.MEDIA_ERROR and "not a domain's XML" in done.detail

    run(story())


def test_a_domain_that_has_another_ones_uuid_for_a_name_is_not_taken_for_it(domains: ModuleType) -> None:
    async def story() -> None:
        impostor = Connection(Domain(VM, "9" + VM[1:], "<domain/>"))
        assert (await insertion(domains, impostor)).reason is Reason.NO_DOMAIN
        assert domains._look(Hypervisor(impostor, "/var/lib/isolift/media"), VM) is None

    run(story())


def test_a_domain_that_starts_while_the_others_are_listed_is_followed(
    domains: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = "0b6d2f0c-3c6e-4b9c-9d5e-6a1c9d0f4e22"
    xml = """<domain><devices><channel type='unix'><source path='/agent'/>
        <target type='virtio' name='org.isolift.agent.0'/></channel></devices></domain>"""
    running = {uuid: Domain(uuid, uuid, xml) for uuid in (VM, other)}
    heard: list[Any] = []

    class Starting(Connection):
        def domainEventRegisterAny(self, *arguments: Any) -> None:
            heard.append(arguments[2])

        def lookupByUUIDString(self, uuid: str) -> Domain:
            return running[uuid]

        def listAllDomains(self) -> list[Domain]:
            heard[0](self, running[other], 2, 0, None)
            return [running[VM]]

        def close(self) -> None:
            self.is_closed = True

    async def story() -> None:
        connection = Starting(running[VM])
        monkeypatch.setattr(Hypervisor, "open", lambda _uri, media_dir: Hypervisor(connection, media_dir))
        ups: list[DomainUp] = []
        followed = domains.Domains("test", "/var/lib/isolift/media", domains.Listener(ups.append, nobody))
        task = asyncio.ensure_future(followed.run())
        while len(ups) < 2 and not task.done():
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        followed.close()
        assert {up.vm for up in ups} == {VM, other}

    run(story())


def test_a_libvirt_that_hangs_is_noticed(domains: ModuleType) -> None:
    async def story() -> None:
        connection = Connection(Domain("desk", VM, "<domain/>"))
        followed = domains.Domains("test", "/var/lib/isolift/media", domains.Listener(nobody, nobody))
        followed._subscribe(connection)
        followed.close()
        assert connection.keepalive == (domains.KEEPALIVE_S, domains.KEEPALIVE_COUNT)

    run(story())


@pytest.mark.usefixtures("domains")
def test_an_operation_that_fails_as_nobody_foresaw_ends_the_relay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else its VM would wait for ever; the next run begins with what the broker and the agents say."""
    shell_module = importlib.import_module("isolift_relay.shell")

    async def waits() -> None:
        await asyncio.Event().wait()

    async def fails(*_arguments: object) -> MediumDone:
        raise ArithmeticError("nobody foresaw it")

    async def story() -> None:
        shell = shell_module.Shell(Config("node1", BrokerConfig("broker", "name", "/no/password")), "run")
        monkeypatch.setattr(shell._broker, "run", waits)
        monkeypatch.setattr(shell._domains, "run", waits)
        monkeypatch.setattr(shell._domains, "insert", fails)
        running = asyncio.ensure_future(shell.run())
        hello = wire.encode_frame(wire.Hello("n")).strip()
        start = wire.encode(message(wire.Start(**{**vars(START), "deadline": 4e9}), "c.1", campaign=CAMPAIGN))
        for event in (BrokerUp(), DomainUp(VM, "desk", "/no/socket"), ChannelUp(VM), Line(VM, hello)):
            shell.handle(event)
        shell.handle(Delivery(1, start))
        with pytest.raises(ArithmeticError):
            await running

    run(story())
