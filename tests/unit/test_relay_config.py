# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The relay's configuration: what is wrong in it is named."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from isolift_relay.config import BrokerConfig, Config, ConfigError, load, parse
from isolift_relay.rates import Limits

LEAST: dict[str, Any] = {
    "node": "node1.example.org",
    "broker": {"host": "broker", "username": "isolift_relay", "password_file": "/etc/isolift/relay.password"},
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """The least configuration with the setting at the dotted ``path`` set; None takes it away."""
    body = copy.deepcopy(LEAST)
    *sections, name = path.split(".")
    place = body
    for section in sections:
        place = place.setdefault(section, {})
    if value is None:
        del place[name]
    else:
        place[name] = value
    return body


def test_the_least_configuration_has_defaults_for_the_rest() -> None:
    broker = BrokerConfig("broker", "isolift_relay", "/etc/isolift/relay.password")
    assert parse(LEAST) == Config("node1.example.org", broker)
    assert (broker.port, broker.vhost, broker.tls) == (5672, "isolift", False)


def test_every_setting_can_be_set() -> None:
    body = changed("limits.messages_per_s", 5)
    body["libvirt_uri"] = "qemu:///session"
    body["broker"].update(port=5671, tls=True, ca_file="/etc/ca.pem", vhost="other")
    config = parse(body)
    assert config.limits == Limits(messages_per_s=5.0)
    assert config.broker == BrokerConfig(
        "broker", "isolift_relay", "/etc/isolift/relay.password", 5671, "other", True, "/etc/ca.pem"
    )


def test_the_broker_may_be_a_cluster() -> None:
    assert parse(changed("broker.host", "one, two,three")).broker.hosts == ["one", "two", "three"]


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ([], "the file: expected an object"),
        (changed("node", None), "node: missing"),
        (changed("node", 7), "node: expected text, got 7"),
        (changed("node", "a b"), "node: 'a b' is not a host name"),
        (changed("broker.host", None), "broker.host: missing"),
        (changed("broker.host", " ,"), "broker.host: names no host"),
        (changed("broker.port", "5672"), "broker.port: expected an integer"),
        (changed("broker.port", True), "broker.port: expected an integer"),
        (changed("broker.port", 70000), "broker.port: 70000"),
        (changed("broker.tls", 1), "broker.tls: expected true or false"),
        (changed("broker.pasword", "x"), "broker.pasword: unknown setting"),
        (changed("broker", "amqp://broker"), "broker: expected an object"),
        (changed("media_dir", "media"), "media_dir: 'media' is not an absolute path"),
        (changed("limits.messages_per_s", 0), "limits.messages_per_s: expected a number above 0"),
        (changed("limits.prefetch", 1.5), "limits.prefetch: expected an integer"),
    ],
)
def test_what_is_wrong_is_named(body: Any, named: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(body)
    assert named in str(caught.value)


def test_a_file_that_is_missing_or_not_json_is_named(tmp_path: Path) -> None:
    path = tmp_path / "relay.json"
    for content in (None, "{", "\udcff"):
        if content is not None:
            path.write_bytes(content.encode("utf-8", "surrogateescape"))
        with pytest.raises(ConfigError, match="relay.json"):
            load(str(path))
    path.write_text(json.dumps(LEAST))
    assert load(str(path)) == parse(LEAST)


def test_the_password_is_read_from_its_file_each_time(tmp_path: Path) -> None:
    path = tmp_path / "password"
    broker = BrokerConfig("broker", "relay", str(path))
    with pytest.raises(ConfigError, match=r"broker\.password_file"):
        broker.password()
    for word in ("one", "two "):
        path.write_text(word + "\n")
        assert broker.password() == word
