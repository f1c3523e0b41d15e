# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guest text on an operator's terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.safety import harmless

from ansible_collections.isolift.vm.plugins.module_utils.text import printable


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("", ""),
        ("plain text, naïve 桌面 😀", "plain text, naïve 桌面 😀"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("\x9b2J", "\\x9b2J"),
        ("over\rwritten\nline\tstop", "over written line stop"),
        ("back\x08space\x7f\x00", "back\\x08space\\x7f\\x00"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\u2066\u2069\u200b\u200d\ufeff\u00ad", "\\u2066\\u2069\\u200b\\u200d\\ufeff\\xad"),
        ("one\u2028two\u2029three\x85four", "one\\u2028two\\u2029three\\x85four"),
        ("\U000e0041\U0010ffff", "\\U000e0041\\U0010ffff"),
        ("\ud800", "\\ud800"),
    ],
)
def test_what_could_steer_a_terminal_is_shown_as_its_escape(raw: str, shown: str) -> None:
    assert printable(raw) == shown


@pytest.mark.parametrize("limit", [1, 2, 10, 300])
def test_long_text_is_cut_and_says_so(limit: int) -> None:
    assert printable("x" * limit, limit) == "x" * limit
    assert printable("x" * (limit + 1), limit) == "x" * (limit - 1) + "…"
    assert len(printable("\x1b" * limit * 10, limit)) <= limit


@given(st.text(), st.integers(1, 400))
def test_any_text_becomes_one_line_of_harmless_characters(raw: str, limit: int) -> None:
    shown = printable(raw, limit)
    assert len(shown) <= limit
    assert len(f"{shown}|".splitlines()) == 1
    assert harmless(shown)
    shown.encode("utf-8")


@given(st.text(), st.integers(20, 400))
def test_text_that_is_safe_already_is_left_alone(raw: str, limit: int) -> None:
    shown = printable(raw, limit)
    assert printable(shown, limit) == shown


def test_a_megabyte_of_escapes_costs_no_more_than_its_beginning() -> None:
    assert printable("\x1b" * 1_000_000, 8) == "\\x1b\\x1" + "…"
