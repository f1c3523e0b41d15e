# Copyright: (c) 2026, the isolift.vm authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The manifest: what is accepted is usable as it is, and nothing else gets through."""

from __future__ import annotations

import copy
import hashlib
import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.isolift.vm.plugins.module_utils.manifest import (
    FIRST_WORD,
    MANIFEST_LIMIT,
    FileEntry,
    Manifest,
    ManifestError,
    Platform,
    Probe,
    digest,
    parse,
    parse_platforms,
    render,
)

DIGEST = hashlib.sha256(b"").hexdigest()

BODY: dict[str, Any] = {
    "schema": 1,
    "component": "guest-tools",
    "version": "2.0.0",
    "platforms": [
        {
            "os": "linux",
            "match": {"id": ["debian", "ubuntu"]},
            "detect": {"file": "/var/lib/guest-tools/version", "regex": r"^(\S+)$"},
            "install": ["/bin/sh", "payload/install.sh"],
            "timeout_s": 600,
            "verify": None,
        },
        {"os": "linux", "detect": {"package": "guest-tools"}, "install": ["payload/install-any.sh"]},
        {
            "os": "windows",
            "detect": {"command": ["C:\\Tools\\gt.exe", "--version"], "regex": r"gt (\S+)"},
            "install": ["payload/setup.exe", "/quiet"],
        },
    ],
    "files": [
        {"path": "payload/install.sh", "size": 123, "sha256": DIGEST, "executable": True},
        {"path": "payload/Größe/文件 1.txt", "size": 0, "sha256": DIGEST, "executable": False},
    ],
}


def dump(body: Any) -> bytes:
    return json.dumps(body).encode()


def changed(change: Callable[[Any], None]) -> bytes:
    body = copy.deepcopy(BODY)
    change(body)
    return dump(body)


def with_paths(*paths: str) -> bytes:
    entry = BODY["files"][0]
    return dump({**BODY, "files": [{**entry, "path": path} for path in paths]})


def code_of(data: bytes) -> str:
    with pytest.raises(ManifestError) as caught:
        parse(data)
    return caught.value.code


def test_a_manifest_tells_what_it_carries() -> None:
    manifest = parse(dump(BODY))
    assert (manifest.component, manifest.version) == ("guest-tools", "2.0.0")
    assert manifest.platforms[0] == Platform(
        os="linux",
        detect=Probe(file="/var/lib/guest-tools/version", regex=r"^(\S+)$"),
        install=("/bin/sh", "payload/install.sh"),
        match={"id": ("debian", "ubuntu")},
        timeout_s=600,
        verify=None,
    )
    assert manifest.platforms[1].detect == Probe(package="guest-tools", regex=FIRST_WORD)
    assert manifest.files[0] == FileEntry("payload/install.sh", 123, DIGEST, True)


def test_the_bytes_depend_on_what_is_said_and_not_on_how() -> None:
    shuffled = {key: BODY[key] for key in reversed(BODY)}
    shuffled["files"] = list(reversed(BODY["files"]))
    data = render(parse(dump(shuffled)))
    assert data == render(parse(json.dumps(BODY, indent=4, ensure_ascii=False).encode()))
    assert data == render(parse(data))
    assert data.startswith(b'{"component":"guest-tools","files":[{"executable":false,"path":"payload/Gr')
    assert "文件".encode() in data
    assert data.endswith(b"}\n")


SYSTEM_TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)
REGEX = st.sampled_from([FIRST_WORD, r"^v(\d+\.\d+)$", r"(?:a|b)=(.*)"])
PROBE = st.one_of(
    st.builds(Probe, file=SYSTEM_TEXT.map("/var/lib/{}".format), regex=REGEX),
    st.builds(Probe, command=st.lists(SYSTEM_TEXT, min_size=1, max_size=3).map(tuple), regex=REGEX),
    st.builds(Probe, package=st.from_regex(r"[a-z0-9][a-z0-9.+-]{0,20}", fullmatch=True), regex=REGEX),
)
PLATFORM = st.builds(
    Platform,
    os=st.just("linux"),
    detect=PROBE,
    install=st.lists(SYSTEM_TEXT, min_size=1, max_size=3).map(tuple),
    match=st.dictionaries(
        st.sampled_from(["id", "version_id", "arch"]),
        st.lists(SYSTEM_TEXT, min_size=1, max_size=2).map(tuple),
    ),
    timeout_s=st.integers(1, 86400),
    verify=st.none() | PROBE,
)
FILES = st.integers(1, 5).flatmap(
    lambda count: st.tuples(
        *(
            st.builds(
                FileEntry,
                path=st.just(f"payload/{number}/ä b"),
                size=st.integers(0, 2**32 - 1),
                sha256=st.from_regex(r"[0-9a-f]{64}", fullmatch=True),
                executable=st.booleans(),
            )
            for number in range(count)
        )
    )
)
MANIFEST = st.builds(
    Manifest,
    component=st.from_regex(r"[a-z][a-z0-9-]{0,20}", fullmatch=True),
    version=st.from_regex(r"[0-9][0-9a-z.:~+-]{0,20}", fullmatch=True),
    platforms=st.lists(PLATFORM, min_size=1, max_size=3).map(tuple),
    files=FILES,
)


@given(MANIFEST)
def test_what_is_rendered_parses_to_the_same(manifest: Manifest) -> None:
    assert parse(render(manifest)) == manifest


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(list(BODY)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from([*BODY, "os", "x"]), inner),
    max_leaves=20,
)


def parse_or_refuse(data: bytes) -> None:
    try:
        manifest = parse(data)
    except ManifestError:
        return
    assert parse(render(manifest)).files == tuple(sorted(manifest.files, key=lambda entry: entry.path))


@given(st.binary() | JSON.map(dump))
def test_hostile_bytes_are_refused_and_nothing_worse(data: bytes) -> None:
    parse_or_refuse(data)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value inside ``value``."""
    children = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    return [path] * bool(path) + [place for key, child in children for place in places(child, (*path, key))]


@given(st.sampled_from(places(BODY)), JSON)
def test_a_manifest_with_anything_in_any_place_is_refused_and_nothing_worse(
    place: tuple[Any, ...], value: Any
) -> None:
    body = copy.deepcopy(BODY)
    target = body
    for key in place[:-1]:
        target = target[key]
    target[place[-1]] = value
    parse_or_refuse(dump(body))


@given(st.text(st.sampled_from(list("()[]{}?*+|\\^$.-<>=!:Pa1,sLiu")), max_size=30))
def test_any_text_as_a_regular_expression_is_taken_or_refused(pattern: str) -> None:
    detect = {"file": "/v", "regex": pattern}
    parse_or_refuse(dump({**BODY, "platforms": [{"os": "linux", "detect": detect, "install": ["x"]}]}))


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "not_json"),
        (b"[]", "not_json"),
        (b"\xff{}", "not_json"),
        (b'{"schema":1,"schema":1}', "not_json"),
        (b'{"schema":NaN}', "not_json"),
        (b'{"schema":' + b"9" * 3_000_000 + b"}", "not_json"),
        (b'{"schema":' + b"9" * 21 + b"}", "not_json"),
        (b"[" * 1_000_000, "not_json"),
        (b" " * (MANIFEST_LIMIT + 1), "too_large"),
        (b"{}", "bad_schema"),
        (changed(lambda body: body.update(schema=2)), "bad_schema"),
        (changed(lambda body: body.update(extra=1)), "bad_field"),
        (changed(lambda body: body.pop("version")), "bad_field"),
        (changed(lambda body: body.update(component="a b")), "bad_field"),
        (changed(lambda body: body.update(version="-1")), "bad_field"),
        (changed(lambda body: body.update(version="1" * 65)), "bad_field"),
        (changed(lambda body: body.update(version=2)), "bad_field"),
        (changed(lambda body: body.update(platforms=[])), "bad_field"),
        (changed(lambda body: body.update(files=[])), "bad_field"),
        (changed(lambda body: body.update(files=BODY["files"] * 10001)), "bad_field"),
        (changed(lambda body: body["files"][0].update(size=-1)), "bad_field"),
        (changed(lambda body: body["files"][0].update(size=2**32)), "bad_field"),
        (changed(lambda body: body["files"][0].update(size=True)), "bad_field"),
        (changed(lambda body: body["files"][0].update(executable=1)), "bad_field"),
        (changed(lambda body: body["files"][0].update(sha256=DIGEST.upper())), "bad_field"),
        (changed(lambda body: body["platforms"][0].update(os="plan9")), "bad_field"),
        (changed(lambda body: body["platforms"][0].update(verfy=None)), "bad_field"),
        (changed(lambda body: body["platforms"][0].update(install=[])), "bad_field"),
        (changed(lambda body: body["platforms"][0].update(install=["a\0b"])), "bad_field"),
        (changed(lambda body: body["platforms"][0].update(install=["\ud800"])), "bad_field"),
        (changed(lambda body: body["platforms"][0].update(timeout_s=0)), "bad_field"),
        (changed(lambda body: body["platforms"][0]["match"].update(kernel=["6"])), "bad_field"),
        (changed(lambda body: body["platforms"][0]["match"].update(id="debian")), "bad_field"),
        (changed(lambda body: body["platforms"][0]["detect"].update(package="x")), "bad_field"),
        (changed(lambda body: body["platforms"][0]["detect"].pop("file")), "bad_field"),
        (changed(lambda body: body["platforms"][0]["detect"].update(file="etc/version")), "bad_field"),
        (changed(lambda body: body["platforms"][1]["detect"].update(package="--root=/x")), "bad_field"),
        (changed(lambda body: body["platforms"][2].update(detect={"package": "x"})), "bad_field"),
        (changed(lambda body: body["platforms"][2].update(detect={"file": "/etc/version"})), "bad_field"),
    ],
)
def test_what_is_wrong_is_refused_with_its_code(data: bytes, code: str) -> None:
    assert code_of(data) == code


@pytest.mark.parametrize(
    "path",
    [
        "/payload/x",
        "payload",
        "payload/",
        "payload//x",
        "payload/../x",
        "payload/./x",
        "payload/..",
        "../payload/x",
        "isolift/manifest.json",
        "payloadx/y",
        "payload/a\\b",
        "payload/a\nb",
        "payload/\x1b[31m",
        "payload/\x85",
        "payload/\u2028",
        "payload/" + "n" * 251,
        "payload/" + "é" * 126,
        "payload/" + "a/" * 508 + "b",
    ],
)
def test_a_path_that_leaves_the_payload_or_cannot_be_a_file_is_refused(path: str) -> None:
    assert code_of(with_paths(path)) in ("bad_path", "bad_field")


@pytest.mark.parametrize(
    "paths",
    [
        ("payload/a", "payload/a"),
        ("payload/A", "payload/A"),
        ("payload/a", "payload/A"),
        ("payload/straße", "payload/STRASSE"),
        ("payload/a", "payload/a/b"),
        ("payload/a/b", "payload/a"),
        ("payload/Dir/a", "payload/dir/b"),
    ],
)
def test_names_that_one_guest_would_confuse_are_refused(paths: tuple[str, ...]) -> None:
    assert code_of(with_paths(*paths)) == "duplicate"


def test_files_may_share_directories() -> None:
    paths = ("payload/a/b", "payload/a/c", "payload/ab", "payload/a.b/c")
    assert tuple(entry.path for entry in parse(with_paths(*paths)).files) == paths


@pytest.mark.parametrize(
    "pattern", ["(", "a", "(?:a)", "*", "(?P<n>", "(a){99999999999}", "[[a](b)", "a(?i)(b)", "(" * 400]
)
def test_a_regular_expression_must_compile_everywhere_and_have_a_group(pattern: str) -> None:
    assert code_of(changed(lambda body: body["platforms"][0]["detect"].update(regex=pattern))) == "bad_regex"


def test_text_that_is_not_unicode_cannot_be_rendered() -> None:
    with pytest.raises(ManifestError, match="not Unicode"):
        render(Manifest("x", "\udcff", (), ()))


def test_platforms_can_be_given_alone_and_say_where_they_are_wrong() -> None:
    assert parse_platforms(BODY["platforms"]) == parse(dump(BODY)).platforms
    with pytest.raises(ManifestError, match=r"platforms\[1\]: install missing"):
        parse_platforms([BODY["platforms"][0], {"os": "linux", "detect": {"package": "x"}}])


def test_the_first_platform_that_fits_the_guest_is_taken() -> None:
    manifest = parse(dump(BODY))
    debian = {"id": "debian", "version_id": "12", "arch": "x86_64"}
    assert manifest.platform_for("linux", debian) is manifest.platforms[0]
    assert manifest.platform_for("linux", {"id": "fedora"}) is manifest.platforms[1]
    assert manifest.platform_for("windows", {}) is manifest.platforms[2]


def test_every_fact_that_a_platform_names_must_match() -> None:
    match = {"id": ["debian"], "version_id": ["12"], "arch": ["x86_64"]}
    (platform,) = parse_platforms(
        [{"os": "linux", "match": match, "detect": {"package": "x"}, "install": ["x"]}]
    )
    facts = {"id": "debian", "version_id": 12, "arch": "x86_64"}
    assert platform.fits("linux", facts)
    assert not platform.fits("windows", facts)
    for name in facts:
        assert not platform.fits("linux", {**facts, name: "other"})
        assert not platform.fits("linux", {key: value for key, value in facts.items() if key != name})


def test_a_guest_without_platform_is_told_what_it_is() -> None:
    manifest = parse(changed(lambda body: body["platforms"].pop(1)))
    with pytest.raises(
        ManifestError, match=r"guest-tools 2\.0\.0 has no platform for linux.*id alpine"
    ) as caught:
        manifest.platform_for("linux", {"id": "alpine"})
    assert caught.value.code == "no_platform"


@pytest.mark.parametrize(
    ("regex", "output", "version"),
    [
        (FIRST_WORD, "  2.0.0 (stable)\n", "2.0.0"),
        (r"^(\S+)$", "2.0.0\n", "2.0.0"),
        (r"^version (\S+)$", "tools\nversion 1.5\nby us\n", "1.5"),
        (r"a(b)?", "a", ""),
        (FIRST_WORD, "", ""),
    ],
)
def test_a_probe_finds_the_version_in_what_the_guest_says(regex: str, output: str, version: str) -> None:
    assert Probe(file="/x", regex=regex).version_in(output) == version


def test_a_digest_covers_all_of_a_long_stream() -> None:
    data = bytes(range(256)) * 10_000
    assert digest(io.BytesIO(data)) == (len(data), hashlib.sha256(data).hexdigest())
