"""No file runs code, takes much memory, or ends in anything but a `ModelFileError` of one line."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import hostile
import pytest
from mutations import mutated, with_nasty_values

from autoreg.errors import ModelFileError
from autoreg.persistence import read_manifest, read_model

KINDS = {
    "pickle": 16, "joblib": 5, "torch": 4, "stranger": 27, "cut": 65, "flipped": 256, "longer": 3, "lost": 7,
    "large": 4, "length": 17, "header": 28, "metadata": 15, "manifest": 57, "version": 22, "envelope": 43, "name": 22,
    "type": 16, "shape": 52, "layout": 42, "value": 15,
}  # fmt: skip
"""Files of each kind, so that none is lost unseen. The reference page gives their sum."""

Outcomes = dict[str, list[str]]


@pytest.fixture(scope="module")
def outcomes() -> Iterator[Outcomes]:
    """What came of every hostile file in a process of its own, which has little memory to spare.

    For each file the class and message of the error of `read_manifest`, then of `read_model`.
    """
    with tempfile.TemporaryDirectory() as base:
        folder, marker = Path(base, "files"), Path(base, "marker")
        folder.mkdir()
        names = []
        for i, file in enumerate(hostile.corpus(str(marker))):
            file.write(folder / f"{i:04}.safetensors")
            names.append(file.name)
        done = subprocess.run(
            [sys.executable, hostile.__file__, str(folder)],
            capture_output=True, text=True, timeout=300, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert not marker.exists()
        assert os.listdir(base) == ["files"]
        assert len(os.listdir(folder)) == len(names)
        yield dict(zip(names, json.loads(done.stdout).values(), strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_a_hostile_file_is_refused_in_one_line(
    outcomes: Outcomes, kind: str, record_property: Callable[[str, object], None]
) -> None:
    found = {name: outcome for name, outcome in outcomes.items() if name.startswith(kind + "/")}
    assert len(found) == KINDS[kind]
    record_property("hostile_files", len(found))
    for name, (early, _, error, message) in found.items():
        assert error == "ModelFileError", (name, error, message)
        assert early in ("ModelFileError", "", "not tried"), (name, early)
        assert ".safetensors" in message, (name, message)
        assert message.isprintable(), (name, message)
        assert len(message) < 400, (name, message)


def test_every_kind_is_looked_at(outcomes: Outcomes) -> None:
    assert Counter(name.partition("/")[0] for name in outcomes) == KINDS


def test_only_damage_among_the_tensors_passes_the_manifest(outcomes: Outcomes) -> None:
    passed = {name.partition("/")[0] for name, (early, *_) in outcomes.items() if not early}
    assert passed == {"pickle", "flipped", "large", "envelope", "value"}
    assert not outcomes["pickle/as the tensors"][0]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("pickle/protocol 5", "is a pickle file, not an autoreg model; nothing was run"),
        ("pickle/protocol 0", "is a pickle file, not an autoreg model; nothing was run"),
        ("torch/zip", "is a zip archive (torch.save and skops write such), not an autoreg model; nothing was run"),
        ("joblib/('gzip', 3)", "is a gzip file (joblib.dump may write such), not an autoreg model; nothing was run"),
        ("stranger/parquet", "is a parquet table, not an autoreg model; nothing was run"),
        ("stranger/empty", "is empty"),
        ("stranger/safetensors", "is a safetensors file that autoreg did not write: it has no autoreg manifest"),
        ("cut/63 of 64", "is cut short: its header says 983 bytes, the file has 967"),
        ("cut/32 of 64", "is cut short: its header alone takes 896 bytes, the file has 491"),
        ("longer/64 KiB", "has 65536 bytes more than its header says"),
        ("version/999", "has format 999, and this autoreg reads formats up to 1: update autoreg"),
        ("large/zeros", "has 3221225472 bytes, and the limit is 2147483648 (max_bytes)"),
        ("value/nan in weight at 36", "has tensor 'weight' with NaN or infinite values"),
    ],
)
def test_the_message_says_what_is_wrong(outcomes: Outcomes, name: str, message: str) -> None:
    assert re.sub(r"^.*\.safetensors ", "", outcomes[name][3]) == message


def test_what_is_packed_by_hand_is_good(tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(hostile.pack())
    manifest, tensors = read_model(tmp_path / "m")
    assert manifest == hostile.MODEL
    assert tensors["weight"].tolist()[0] == [0, 0.125, 0.25, 0.375]


def test_text_that_looks_like_code_stays_text(tmp_path: Path) -> None:
    evil = {"network": "os.system", "loss": "__import__('os').abort()", "a.b:c": ["!!python/object:os.system", "${x}"]}
    (tmp_path / "m").write_bytes(hostile.pack(model=evil))
    assert read_manifest(tmp_path / "m") == evil


def outcome(path: Path, content: bytes) -> str:
    """Read a mutated file; anything but a `ModelFileError` of one line gets out."""
    path.write_bytes(content)
    try:
        read_model(path)
    except ModelFileError as error:
        return "refused" if str(error).isprintable() else "refused in several lines"
    return "read"


def test_random_damage_is_refused(tmp_path: Path) -> None:
    good, draw = hostile.pack(), random.Random(0)
    mutations = {mutated(draw, good) for _ in range(4000)} - {good}
    assert len(mutations) > 3500
    assert Counter(outcome(tmp_path / "m", content) for content in mutations) == {"refused": len(mutations)}


def test_random_text_with_right_checksums_is_refused_or_harmless(tmp_path: Path) -> None:
    """The manifest's text is changed by somebody who knows the format."""
    good, draw = hostile.dumps(hostile.envelope()), random.Random(1)
    counts: Counter[str] = Counter()
    for _ in range(3000):
        text = mutated(draw, good.encode()).decode("latin-1")
        counts[outcome(tmp_path / "m", hostile.pack(text=text))] += 1
    assert set(counts) == {"refused", "read"}
    assert counts["refused"] > 1000
    assert counts["read"] > 10


def test_random_values_with_right_checksums_are_refused_or_harmless(tmp_path: Path) -> None:
    draw = random.Random(2)
    counts: Counter[str] = Counter()
    for _ in range(3000):
        envelope = with_nasty_values(draw, hostile.envelope())
        fields = hostile.entries(hostile.TENSORS)
        if draw.random() < 0.3:
            fields = with_nasty_values(draw, fields)
        counts[outcome(tmp_path / "m", hostile.pack(text=hostile.dumps(envelope), fields=fields))] += 1
    assert set(counts) == {"refused", "read"}
    assert counts["refused"] > 1000
    assert counts["read"] > 10


def test_the_reference_page_tells_how_many_files_there_are() -> None:
    page = Path(__file__).parents[1] / "docs" / "reference" / "model-file.md"
    assert f"{sum(KINDS.values())} hostile files" in page.read_text(encoding="utf-8")
