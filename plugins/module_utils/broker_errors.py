# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What RabbitMQ's refusals mean: whether to try again, and what a person has to look at."""

from __future__ import annotations

import re
import ssl
from typing import Any, Sequence

_PRESENTLY_CLOSED = frozenset({320, 506, 541})
"""Reply codes with which RabbitMQ closes what it cannot serve just now: shutdown, resource and internal errors."""

_PRESENTLY_AWAY = (
    "is down or inaccessible",
    "process is stopped by supervisor",
    "has crashed and failed to restart",
    "due to timeout",
    "replica on the local node",
)
"""Words by which RabbitMQ says, with 404 or 406, that a queue exists but is not to be had at present."""


class BrokerError(Exception):
    """The broker cannot be used; the text says why and what to look at."""


class BrokerLost(BrokerError):
    """The connection is gone or cannot be made, or what was asked for is not to be had at present.

    Connecting again, now or later, may mend it. A `BrokerError` that is not one of these stays until somebody mends it.
    """


class NoSuchStream(BrokerError):
    """The stream does not exist."""


class QueueLocked(BrokerError):
    """Another connection holds the exclusive queue."""


def check(*options: str) -> str:
    """What to look at, by the names of the modules' options and of the playbooks' variables."""
    variables = " and ".join(f"isolift_{option}" for option in options)
    return f"check {' and '.join(options)} ({variables} in the playbooks)"


def no_campaign(wanted: str) -> NoSuchStream:
    """What it means that there is no journal of ``wanted``, the ID of a campaign or of an upgrade."""
    return NoSuchStream(
        f"the broker knows no campaign of the ID {wanted}; isolift.vm.status lists those that it knows. If its run was stopped before "
        "the start was sent, nothing was started: run it anew; isolift.vm.cleanup ejects discs that it may have left"
    )


def not_connected(where: str, error: Any) -> BrokerError:
    """What it means that pika could not connect. ``where`` names the broker and the user."""
    return _of_connection(f"cannot use RabbitMQ at {where}", error)


def disconnected(where: str, error: Any) -> BrokerError:
    """What it means that a connection ended."""
    return _of_connection(f"lost the connection to RabbitMQ at {where}", error)


def refused(where: str, code: int, text: str) -> BrokerError:
    """What it means that RabbitMQ closed a channel with this reply code and text."""
    words = f"RabbitMQ at {where} refused: {text}"
    if code == 405:
        return QueueLocked(words)
    if code in _PRESENTLY_CLOSED or (code in (404, 406) and any(part in text for part in _PRESENTLY_AWAY)):
        return BrokerLost(words)
    if code == 404 and "no queue" in text:
        return NoSuchStream(words)
    return BrokerError(words)


def _of_connection(what: str, error: Any) -> BrokerError:
    cause = _innermost(error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return BrokerError(f"{what}: {cause}; {check('broker_ca_cert', 'broker_host')}")
    code, text = _reply(cause)
    if code == 403:
        return BrokerError(
            f"{what}: it refused the user name or the password; {check('broker_username', 'broker_password')}"
        )
    if code == 530:
        return BrokerError(f"{what}: {text}; {check('broker_vhost')}, and that the user may use it")
    if code and code not in _PRESENTLY_CLOSED:
        return BrokerError(f"{what}: {text}")
    return BrokerLost(f"{what}: {text}; {check('broker_host', 'broker_port')}, and that RabbitMQ runs there")


def _innermost(error: Any) -> Any:
    """The exception that pika's others are wrapped around."""
    cause = error
    inner: Sequence[Any] = [error]
    while inner:
        cause = inner[-1]
        nested = getattr(cause, "exception", None)
        inner = getattr(cause, "exceptions", None) or [
            item for item in (nested, *getattr(cause, "args", ())) if isinstance(item, BaseException)
        ]
    return cause


def _reply(cause: Any) -> tuple[int, str]:
    """RabbitMQ's reply code, 0 if it sent none, and what it or the system said."""
    code = getattr(cause, "reply_code", 0)
    if code:
        return int(code), str(cause.reply_text)
    text = str(cause) or repr(cause)
    # While a connection is being opened, pika keeps nothing of RabbitMQ's answer but its repr().
    quoted = re.match(r"ConnectionClosedByBroker: \((\d+)\) (['\"])(.*)\2$", text)
    return (int(quoted[1]), quoted[3]) if quoted else (0, text)
