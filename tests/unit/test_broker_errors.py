# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of RabbitMQ's refusals pass, and which somebody must mend. The texts are RabbitMQ's own, as 3.10 and 4.0 say them."""

from __future__ import annotations

import ssl

import pytest
from pika.exceptions import (
    AMQPHeartbeatTimeout,
    ConnectionBlockedTimeout,
    ConnectionClosedByBroker,
    ProbableAccessDeniedError,
    ProbableAuthenticationError,
    StreamLostError,
)

from ansible_collections.isolift.vm.plugins.module_utils.broker_errors import (
    BrokerError,
    BrokerLost,
    NoSuchStream,
    QueueLocked,
    disconnected,
    not_connected,
    refused,
)

STREAM = "queue 'isolift.campaign.x' in vhost 'isolift'"
STOPPING = ConnectionClosedByBroker(
    320, "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'"
)
NO_VHOST = ConnectionClosedByBroker(530, "NOT_ALLOWED - vhost nowhere not found")
VHOST_DOWN = ConnectionClosedByBroker(
    541, "INTERNAL_ERROR - access to vhost 'isolift' refused for user 'x': vhost 'isolift' is down"
)
WRONG_PASSWORD = ConnectionClosedByBroker(
    403, "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN."
)


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError(111, "Connection refused"),
        TimeoutError("TCP connection attempt timed out"),
        StreamLostError("Stream connection lost: ConnectionResetError(104, 'Connection reset by peer')"),
        ProbableAccessDeniedError(repr(StreamLostError("Transport indicated EOF"))),
        ProbableAuthenticationError(repr(StreamLostError("Transport indicated EOF"))),
        ProbableAccessDeniedError(repr(VHOST_DOWN)),
        ssl.SSLEOFError(8, "EOF occurred in violation of protocol"),
    ],
)
def test_what_keeps_us_from_connecting_and_may_pass(error: Exception) -> None:
    meant = not_connected("broker:5672", error)
    assert meant.__class__ is BrokerLost and "check broker_host" in str(meant)


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (ProbableAuthenticationError(repr(WRONG_PASSWORD)), "check broker_username and broker_password"),
        (ProbableAccessDeniedError(repr(NO_VHOST)), "vhost nowhere not found; check broker_vhost"),
        (
            ssl.SSLCertVerificationError(1, "certificate verify failed: self-signed certificate"),
            "check broker_ca_cert",
        ),
    ],
)
def test_what_keeps_us_from_connecting_until_somebody_mends_it(error: Exception, advice: str) -> None:
    meant = not_connected("broker:5672", error)
    assert meant.__class__ is BrokerError and advice in str(meant)


@pytest.mark.parametrize(
    "error",
    [
        STOPPING,
        AMQPHeartbeatTimeout("No activity or too many missed heartbeats in the last 20 seconds"),
        ConnectionBlockedTimeout("Blocked connection timeout expired."),
        ConnectionClosedByBroker(541, "INTERNAL_ERROR"),
    ],
)
def test_a_connection_that_ends_may_be_made_again(error: Exception) -> None:
    assert disconnected("broker:5672", error).__class__ is BrokerLost


def test_a_connection_that_ends_for_what_we_did_is_no_use_to_make_again() -> None:
    error = ConnectionClosedByBroker(540, "NOT_IMPLEMENTED - basic.get not supported by stream queues")
    assert disconnected("broker:5672", error).__class__ is BrokerError


@pytest.mark.parametrize(
    ("code", "text", "kind"),
    [
        (404, f"NOT_FOUND - no {STREAM}", NoSuchStream),
        (404, f"NOT_FOUND - home node 'rabbit@one' of durable {STREAM} is down or inaccessible", BrokerLost),
        (404, f"NOT_FOUND - {STREAM} process is stopped by supervisor", BrokerLost),
        (404, f"NOT_FOUND - {STREAM} has crashed and failed to restart", BrokerLost),
        (404, f"NOT_FOUND - failed to perform operation on {STREAM} due to timeout", BrokerLost),
        (404, "NOT_FOUND - no exchange 'isolift.journal' in vhost 'isolift'", BrokerError),
        (405, f"RESOURCE_LOCKED - cannot obtain exclusive access to locked {STREAM}.", QueueLocked),
        (406, f"PRECONDITION_FAILED - {STREAM} does not have a replica on the local node", BrokerLost),
        (406, f"PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for {STREAM}", BrokerError),
        (403, f"ACCESS_REFUSED - access to {STREAM} refused for user 'isolift_relay'", BrokerError),
        (541, "INTERNAL_ERROR", BrokerLost),
    ],
)
def test_a_channel_that_is_refused(code: int, text: str, kind: type[BrokerError]) -> None:
    meant = refused("broker:5672", code, text)
    assert meant.__class__ is kind and text in str(meant)
