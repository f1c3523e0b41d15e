# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's configuration: one JSON object, every key optional, no other key allowed."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

DEFAULT_PATH = Path("/etc/isolift/agent.json")


class ConfigError(Exception):
    """A configuration that cannot be used; the detail names the file and the key."""


@dataclass(frozen=True)
class Config:
    """Where things are in this guest.

    ``media`` are the drives that are tried in order; ``prompt`` is the argv that asks the user, None if nothing asks by
    itself. All paths are absolute.
    """

    port: Path = Path("/dev/virtio-ports/org.isolift.agent.0")
    state_dir: Path = Path("/var/lib/isolift")
    keys_dir: Path = Path("/etc/isolift/keys")
    media: tuple[Path, ...] = (Path("/dev/sr0"),)
    mount_point: Path = Path("/run/isolift/media")
    work_dir: Path = Path("/var/lib/isolift/work")
    control_socket: Path = Path("/run/isolift/agent.sock")
    prompt: tuple[str, ...] | None = None


def load(path: Path) -> Config:
    """The configuration that the file at ``path`` holds.

    :raises ConfigError: it cannot be read, or something in it is wrong.
    """
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path} is not JSON: {error}") from error
    try:
        return parse(body)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{path}: {error}") from error


def parse(body: Any) -> Config:
    """The configuration that a decoded JSON value holds.

    :raises TypeError: it is no object.
    :raises ValueError: something in it is wrong.
    """
    if not isinstance(body, dict):
        raise TypeError("expected a JSON object")
    known = [item.name for item in fields(Config)]
    unknown = sorted(set(body) - set(known))
    if unknown:
        raise ValueError(f"unknown key {unknown[0]!r}; known are {', '.join(known)}")
    values: dict[str, Any] = {}
    for name, value in body.items():
        if name == "media":
            values[name] = tuple(_path(name, item) for item in _texts(name, value))
        elif name == "prompt":
            values[name] = None if value is None else _texts(name, value)
        else:
            values[name] = _path(name, value)
    return Config(**values)


def _path(name: str, value: Any) -> Path:
    if not isinstance(value, str) or not value.startswith("/") or "\0" in value:
        raise ValueError(f"{name}: expected an absolute path, found {value!r}")
    return Path(value)


def _texts(name: str, value: Any) -> tuple[str, ...]:
    if (
        not isinstance(value, list)
        or not value
        or not all(isinstance(item, str) and "\0" not in item for item in value)
    ):
        raise ValueError(f"{name}: expected a list of texts that is not empty")
    return tuple(value)
