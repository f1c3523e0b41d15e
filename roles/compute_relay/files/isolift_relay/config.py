# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The relay's configuration: one JSON file, checked before anything starts."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, fields
from typing import Any

from .media import DEFAULT_MEDIA_DIR, DEFAULT_URI
from .rates import Limits


class ConfigError(Exception):
    """The file cannot be used. The text names the file, the setting and what was expected."""


@dataclass(frozen=True)
class BrokerConfig:
    """How to reach RabbitMQ. ``ca_file`` is empty for the system's certificates; it counts with ``tls`` only.

    ``host`` may be several names with commas between them: the nodes of a cluster.
    """

    host: str
    username: str
    password_file: str
    port: int = 5672
    vhost: str = "isolift"
    tls: bool = False
    ca_file: str = ""

    @property
    def hosts(self) -> list[str]:
        """The names or addresses of the nodes, in the order in which they are to be tried."""
        return [name for name in (part.strip() for part in self.host.split(",")) if name]

    def password(self) -> str:
        """The password, read anew so that it can be changed without a restart.

        :raises ConfigError: the file cannot be read.
        """
        try:
            with open(self.password_file, encoding="utf-8") as file:
                return file.read().rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"broker.password_file {self.password_file}: {error}") from error


@dataclass(frozen=True)
class Config:
    """The whole configuration."""

    node: str
    broker: BrokerConfig
    libvirt_uri: str = DEFAULT_URI
    media_dir: str = DEFAULT_MEDIA_DIR
    limits: Limits = field(default_factory=Limits)


def load(path: str) -> Config:
    """Reads and checks the file at ``path``.

    :raises ConfigError: it is missing, not JSON, or a setting is missing, unknown or of another type.
    """
    try:
        with open(path, encoding="utf-8") as file:
            return parse(json.load(file))
    except (
        OSError,
        ValueError,
        ConfigError,
    ) as error:  # JSONDecodeError and UnicodeDecodeError are ValueErrors
        raise ConfigError(f"{path}: {error}") from error


def parse(body: Any) -> Config:
    """The configuration that the decoded JSON holds.

    :raises ConfigError: a setting is missing, unknown or of another type.
    """
    config: Config = _section(Config, body, "", broker=BrokerConfig, limits=Limits)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}", config.node):
        raise ConfigError(f"node: {config.node!r} is not a host name")
    if not config.broker.hosts:
        raise ConfigError("broker.host: names no host")
    if not 1 <= config.broker.port <= 65535:
        raise ConfigError(f"broker.port: {config.broker.port} is not 1 to 65535")
    if not config.media_dir.startswith("/"):
        raise ConfigError(f"media_dir: {config.media_dir!r} is not an absolute path")
    for item in fields(Limits):
        if getattr(config.limits, item.name) <= 0:
            raise ConfigError(f"limits.{item.name}: expected a number above 0")
    return config


_WORDS = {
    "str": (str, "text"),
    "int": (int, "an integer"),
    "bool": (bool, "true or false"),
    "float": (float, "a number"),
}


def _section(kind: Any, body: Any, prefix: str, **sections: Any) -> Any:
    """``body`` as the dataclass ``kind``; ``sections`` are those of its fields that are dataclasses again."""
    if not isinstance(body, dict):
        raise ConfigError(f"{prefix.rstrip('.') or 'the file'}: expected an object")
    known = {item.name: item for item in fields(kind)}
    unknown = sorted(set(body) - set(known))
    if unknown:
        raise ConfigError(f"{prefix}{unknown[0]}: unknown setting; known are {', '.join(known)}")
    for name, item in known.items():
        if item.default is item.default_factory and name not in body:  # both are MISSING
            raise ConfigError(f"{prefix}{name}: missing")
    return kind(
        **{
            name: _section(sections[name], value, f"{name}.")
            if name in sections
            else _value(str(known[name].type), value, prefix + name)
            for name, value in body.items()
        }
    )


def _value(type_name: str, value: Any, name: str) -> Any:
    expected, words = _WORDS[type_name]
    if expected is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, expected) or (isinstance(value, bool) and expected is not bool):
        raise ConfigError(f"{name}: expected {words}, got {value!r}")
    return value
