"""The model file: what goes in comes out, and it is written whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hostile
import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from autoreg import persistence
from autoreg.errors import ModelFileError, OptionError
from autoreg.modelformat import MAX_HEADER
from autoreg.persistence import read_header, read_manifest, read_model, write_model
from autoreg.strictjson import MAX_DEPTH, MAX_STRING

Tensors = dict[str, Tensor]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "m.safetensors"


@pytest.fixture
def tensors() -> Tensors:
    """The tensors of `hostile.BLOCK`."""
    return {
        "weight": torch.arange(12, dtype=torch.float32).reshape(3, 4) / 8,
        "flag": torch.tensor([True, False, True]),
        "id": torch.tensor([7, -(2**40)]),
        "code": torch.tensor(-5, dtype=torch.int32),
        "big": torch.tensor([0.5, -0.25], dtype=torch.float64),
        "none": torch.empty(0, 4),
    }


def same(found: Tensors, expected: Tensors) -> bool:
    return found.keys() == expected.keys() and all(
        found[name].dtype == tensor.dtype and torch.equal(found[name], tensor) for name, tensor in expected.items()
    )


def test_what_was_written_is_read(path: Path, tensors: Tensors) -> None:
    write_model(path, hostile.MODEL, tensors)
    manifest, found = read_model(path)
    assert manifest == read_manifest(path) == hostile.MODEL
    assert list(manifest) == list(hostile.MODEL)
    assert same(found, tensors)


def test_the_bytes_are_those_of_the_reference_page(path: Path, tensors: Tensors) -> None:
    write_model(path, hostile.MODEL, tensors)
    assert path.read_bytes() == hostile.pack()


def test_the_reader_of_the_reference_page(
    path: Path, tensors: Tensors, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = Path(__file__).parents[1] / "docs" / "reference" / "model-file.md"
    (code,) = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(path.parent)
    write_model("houses.safetensors", hostile.MODEL, tensors)
    exec(code, {})
    assert capsys.readouterr().out == f"1 {sorted(hostile.MODEL)}\n"


def test_version_1_never_changes(path: Path) -> None:
    """A file that was written by the first release is still written, and so read, to the byte."""
    write_model(path, {"target": "Größe", "scores": [0.1, 1e-300, -0.0, 3]}, {"w": torch.tensor([[1.5, -2.0]])})
    checksum = hashlib.sha256(path.read_bytes()).hexdigest()
    assert checksum == "20386a87c78a101d053d13e58c02afa7ecb19d3fa990d3c1595dfd0a685e10b7"


def test_equal_input_gives_equal_bytes(path: Path, tensors: Tensors) -> None:
    write_model(path, hostile.MODEL, tensors)
    first = path.read_bytes()
    write_model(path, hostile.MODEL, dict(reversed(tensors.items())), force=True)
    assert path.read_bytes() == first
    write_model(path, *read_model(path), force=True)
    assert path.read_bytes() == first


def test_other_readers_of_safetensors_read_it(path: Path, tensors: Tensors) -> None:
    write_model(path, hostile.MODEL, tensors)
    assert same(load_file(path), tensors)
    with safe_open(path, "pt") as file:
        assert json.loads(file.metadata()["autoreg"])["model"] == hostile.MODEL


def test_every_tensor_starts_at_a_multiple_of_its_element(path: Path) -> None:
    flags = {f"a{n}": torch.ones(n, dtype=torch.bool) for n in range(1, 6)}
    write_model(path, {}, {**flags, "w": torch.ones(3), "z": torch.ones(1, dtype=torch.float64)})
    assert [entry.dtype for entry in read_header(path).tensors] == ["F64", "F32"] + ["BOOL"] * 5


def test_tensors_have_memory_of_their_own(path: Path, tensors: Tensors) -> None:
    write_model(path, {}, tensors)
    _, found = read_model(path)
    path.write_bytes(b"gone")
    found["weight"].add_(1)
    assert torch.equal(found["weight"], tensors["weight"] + 1)


def test_any_strided_tensor_is_taken(path: Path) -> None:
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    given = {"t": base.T, "step": base[::2, ::3], "expanded": torch.ones(1).expand(5), "parameter": nn.Parameter(base)}
    write_model(path, {}, given)
    assert same(read_model(path)[1], {name: tensor.detach() for name, tensor in given.items()})


def test_a_model_without_tensors(path: Path) -> None:
    write_model(path, {"mean": 3.0}, {})
    assert read_model(path) == ({"mean": 3.0}, {})


def test_the_manifest_is_read_without_torch_and_without_the_tensors(path: Path, tensors: Tensors) -> None:
    write_model(path, hostile.MODEL, tensors)
    data = path.read_bytes()
    path.write_bytes(data[:-1] + b"\0")
    program = f"""
import json, sys
from autoreg.persistence import read_manifest
print(json.dumps(read_manifest({str(path)!r})))
assert not {{"torch", "numpy", "safetensors"}} & set(sys.modules), sorted(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == hostile.MODEL
    with pytest.raises(ModelFileError, match="its tensors do not match their checksum"):
        read_model(path)


def test_the_header_tells_what_is_inside(path: Path, tensors: Tensors) -> None:
    write_model(path, hostile.MODEL, tensors)
    header = read_header(path)
    assert header.format_version == 1
    assert header.sha256 == hostile.sha256(hostile.BLOCK)
    assert [[entry.name, entry.dtype, list(entry.shape)] for entry in header.tensors] == hostile.TENSORS


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ((1, (2, [3])), [1, [2, [3]]]),
        ([math.nan, math.inf, -math.inf, np.float32("nan")], [None] * 4),
        ([np.float64(0.1), np.float32(0.5), np.int64(3), np.bool_(True), np.str_("a")], [0.1, 0.5, 3, True, "a"]),
        ([0.1, 1e-320, -0.0, 1.0, 1e22, 2**53 + 1, -(2**63)], [0.1, 1e-320, -0.0, 1.0, 1e22, 2**53 + 1, -(2**63)]),
        ("Größe 中文 \N{GRINNING FACE} \0 \x1b \u2028 \"quoted\" \\back\\\\", ...),
        ({"": 1, "a.b": 2, "é": None, "sha256": "x", "tensors": [], "__metadata__": {}}, ...),
        ([True, False, None, "", [], {}], ...),
        ("x" * MAX_STRING, ...),
    ],
)  # fmt: skip
def test_values_of_a_manifest(path: Path, value: Any, read: Any) -> None:
    write_model(path, {"a": value}, {})
    expected = {"a": value if read is ... else read}
    found = read_manifest(path)
    assert found == expected
    assert repr(found) == repr(expected)  # tells 1 from 1.0 and True, and -0.0 from 0.0


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


def test_depth_of_a_manifest(path: Path) -> None:
    write_model(path, {"a": nested(MAX_DEPTH - 2)}, {})
    assert read_manifest(path) == {"a": nested(MAX_DEPTH - 2)}
    for depth in (MAX_DEPTH - 1, MAX_DEPTH, 5000):
        with pytest.raises(ModelFileError, match="nested deeper than 64"):
            write_model(path, {"a": nested(depth)}, {}, force=True)


itself: list[Any] = []
itself.append(itself)


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ({"a": {1, 2}}, r"^manifest\['a'\] is \{1, 2\}: JSON, and so a model file, holds no such thing$"),
        ({"a": [0, b"x"]}, r"^manifest\['a'\]\[1\] is b'x': JSON"),
        ({"a": {1: 2}}, r"^manifest\['a'\] is \{1: 2\}: JSON"),
        ({"a": 2**63}, r"^manifest\['a'\] is 9223372036854775808: JSON"),
        ({"a": np.ones(2)}, r"^manifest\['a'\] is array"),
        ({"a": 1j}, r"^manifest\['a'\] is 1j"),
        ({"a": itself}, "nested deeper than 64"),
        ({"a": "\ud800"}, "cannot be saved: its file has a manifest with half of a surrogate pair"),
        ({"a": "x" * (MAX_STRING + 1)}, "cannot be saved: its file has a manifest with a string of 1048577 characters"),
        ({"a": ["x" * MAX_STRING] * 17}, f"cannot be saved: its file has a header of .* the limit is {MAX_HEADER}"),
        ({"a": [[]] * 500_000}, "with more than 1000000 strings, brackets and commas"),
        ([1], "cannot be saved: its file has a manifest whose 'model' is not a JSON object"),
    ],
    ids=lambda value: "",
)
def test_a_manifest_that_cannot_be_saved(path: Path, manifest: Any, message: str) -> None:
    with pytest.raises(ModelFileError, match=message) as caught:
        write_model(path, manifest, {})
    assert "\n" not in str(caught.value)
    assert not os.listdir(path.parent)


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("w", torch.tensor([1.0, math.nan]), "cannot be saved: it has tensor 'w' with NaN or infinite values"),
        ("w", torch.tensor([[-math.inf]], dtype=torch.float64), "with NaN or infinite values"),
        ("w", torch.ones(2, dtype=torch.bfloat16), "tensor 'w' is bfloat16 .*; allowed: float64, float32"),
        ("w", torch.ones(2, dtype=torch.uint8), "tensor 'w' is uint8"),
        ("w", torch.ones(2, dtype=torch.complex64), "tensor 'w' is complex64"),
        ("w", torch.ones(2, device="meta"), "tensor 'w' is float32"),
        ("w", torch.eye(2).to_sparse(), "tensor 'w' is float32 .torch.sparse_coo.; allowed"),
        ("w", [1.0], "holds tensors by name, not 'w': list"),
        (1, torch.ones(1), "holds tensors by name, not 1: Tensor"),
        ("", torch.ones(1), "has a tensor name that is not allowed: ''"),
        ("../w", torch.ones(1), "has a tensor name that is not allowed"),
        ("a\\b", torch.ones(1), "has a tensor name that is not allowed"),
        ("__metadata__", torch.ones(1), "has a tensor name that is not allowed"),
        ("w", torch.ones([1] * 17), "of a shape that is not allowed"),
    ],
)
def test_a_tensor_that_cannot_be_saved(path: Path, name: Any, tensor: Any, message: str) -> None:
    with pytest.raises(ModelFileError, match=message):
        write_model(path, {}, {name: tensor})
    assert not os.listdir(path.parent)


def test_bounds_that_the_caller_sets(path: Path, tensors: Tensors) -> None:
    size = len(hostile.pack())
    with pytest.raises(ModelFileError, match=f"its file has {size} bytes, and the limit is {size - 1}"):
        write_model(path, hostile.MODEL, tensors, max_bytes=size - 1)
    write_model(path, hostile.MODEL, tensors, max_bytes=size)
    read_model(path, max_bytes=size)
    for read in (read_model, read_manifest, read_header):
        with pytest.raises(ModelFileError, match=f"has {size} bytes, and the limit is {size - 1}"):
            read(path, max_bytes=size - 1)
    with pytest.raises(ModelFileError, match="at most 10000 tensors"):
        write_model(path, {}, {f"w{i}": torch.empty(0) for i in range(10_001)}, force=True)


# Writing: whole or not at all.


def test_a_file_is_replaced_only_when_asked(path: Path) -> None:
    write_model(path, {"a": 1}, {})
    with pytest.raises(OptionError, match=r"m\.safetensors exists: .* replace it with force=True \(--force\)$"):
        write_model(path, {"a": 2}, {})
    assert read_manifest(path) == {"a": 1}
    write_model(path, {"a": 2}, {}, force=True)
    assert read_manifest(path) == {"a": 2}
    assert os.listdir(path.parent) == [path.name]


FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("error", [FULL, KeyboardInterrupt(), MemoryError(), RuntimeError("bug")], ids=repr)
@pytest.mark.parametrize("place", ["os.fdopen", "os.fsync", "hashlib.file_digest", "os.chmod", "os.replace"])
@pytest.mark.parametrize("existing", [True, False])
def test_a_failure_leaves_all_as_it_was(
    path: Path, tensors: Tensors, monkeypatch: pytest.MonkeyPatch, place: str, error: BaseException, existing: bool
) -> None:
    if existing:
        write_model(path, {"old": True}, {})
    before = path.read_bytes() if existing else None

    def fail(descriptor: Any, *rest: Any) -> None:
        if place == "os.fdopen":
            os.close(descriptor)
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(f"autoreg.persistence.{place}", fail)
        with pytest.raises(OptionError if error is FULL else type(error)) as caught:
            write_model(path, {}, tensors, force=True)
    if error is FULL:
        assert str(caught.value) == f"cannot write {path}: No space left on device; choose another place"
    assert os.listdir(path.parent) == ([path.name] if existing else [])
    assert (path.read_bytes() if existing else None) == before


def test_what_the_disk_garbles_is_not_kept(path: Path, tensors: Tensors, monkeypatch: pytest.MonkeyPatch) -> None:
    write_model(path, {"old": True}, {})
    sync = os.fsync

    def garble(descriptor: int) -> None:
        os.pwrite(descriptor, b"\xff", os.fstat(descriptor).st_size - 2)
        sync(descriptor)

    monkeypatch.setattr("autoreg.persistence.os.fsync", garble)
    with pytest.raises(OptionError, match="what was read back is not what was written"):
        write_model(path, {}, tensors, force=True)
    assert read_manifest(path) == {"old": True}
    assert os.listdir(path.parent) == [path.name]


def test_a_file_that_appears_meanwhile_is_not_replaced(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sync = os.fsync

    def rival(descriptor: int) -> None:
        sync(descriptor)
        path.write_bytes(b"rival")

    monkeypatch.setattr("autoreg.persistence.os.fsync", rival)
    with pytest.raises(OptionError, match="exists"):
        write_model(path, {}, {})
    assert path.read_bytes() == b"rival"
    assert os.listdir(path.parent) == [path.name]


def test_bytes_are_on_the_disk_before_the_name_is(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []

    def noted(name: str) -> Callable[..., Any]:
        function = getattr(os, name)

        def call(*arguments: Any) -> Any:
            kind = "directory" if name == "fsync" and stat.S_ISDIR(os.fstat(arguments[0]).st_mode) else ""
            steps.append(f"{name} {kind}".strip())
            return function(*arguments)

        return call

    for name in ("fsync", "replace"):
        monkeypatch.setattr(f"autoreg.persistence.os.{name}", noted(name))
    write_model(path, {}, {})
    assert steps == ["fsync", "replace", "fsync directory"]


def test_permissions(path: Path) -> None:
    mask = os.umask(0o027)
    try:
        write_model(path, {}, {})
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        path.chmod(0o600)
        write_model(path, {}, {}, force=True)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(mask)


def test_nobody_else_reads_the_unfinished_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modes = []
    sync = os.fsync

    def look(descriptor: int) -> None:
        modes.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        sync(descriptor)

    monkeypatch.setattr("autoreg.persistence.os.fsync", look)
    write_model(path, {}, {})
    assert modes[0] == 0o600


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    write_model(real, {"a": 1}, {})
    link.symlink_to(real)
    with pytest.raises(OptionError, match="link exists"):
        write_model(link, {"a": 2}, {})
    write_model(link, {"a": 2}, {}, force=True)
    assert link.is_symlink()
    assert read_manifest(real) == read_manifest(link) == {"a": 2}


@pytest.mark.parametrize("force", [True, False])
def test_places_where_no_file_can_be(tmp_path: Path, force: bool) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for place, message in {
        tmp_path: "is not a regular file",
        tmp_path / "pipe": "is not a regular file",
        "/dev/null": "is not a regular file",
        tmp_path / "none" / "m": "there is no directory .*none; make it first",
        tmp_path / "pipe" / "m": "there is no directory",
        tmp_path / "a\0b": "is not the name of a file",
        f"{tmp_path}/": "is not the name of a file",
        "": "is not the name of a file",
        tmp_path / ("x" * 300): "cannot write .*: File name too long",
    }.items():
        with pytest.raises(OptionError, match=message) as caught:
            write_model(place, {}, {}, force=force)
        assert str(caught.value).isprintable()
    assert sorted(os.listdir(tmp_path)) == ["loop", "pipe"]


# Reading: what stands at the path.


def test_paths_that_are_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    (tmp_path / "locked").write_bytes(hostile.pack())
    monkeypatch.setattr("autoreg.persistence.os.open", refuse)
    for place, message in {
        tmp_path: "is a directory, not an autoreg model$",
        tmp_path / "pipe": "is a pipe or a device, not an autoreg model$",
        "/dev/zero": "is a pipe or a device, not an autoreg model$",
        tmp_path / "loop": "^cannot read .*loop: Too many levels of symbolic links$",
        tmp_path / "dangling": "^cannot read .*dangling: No such file or directory$",
        tmp_path / "none.safetensors": "^cannot read .*none.safetensors: No such file or directory$",
        tmp_path / "locked" / "m": "^cannot read .*: Not a directory$",
        tmp_path / "locked": "^cannot read .*locked: Permission denied$",
        tmp_path / "a\0b": "is not the name of a file$",
        tmp_path / "new\nline": r"^cannot read '.*new\\nline': No such file",
        "": "^cannot read : No such file",
    }.items():
        for read in (read_model, read_manifest, read_header):
            with pytest.raises(ModelFileError, match=message) as caught:
                read(place)
            assert str(caught.value).isprintable()


def refuse(*arguments: Any) -> int:
    """Root may read what is locked, so that the refusal is played."""
    raise PermissionError(errno.EACCES, "Permission denied")


def test_a_pipe_that_takes_the_place_of_a_file_does_not_block(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_bytes(hostile.pack())
    look = os.stat

    def swap(place: Any) -> os.stat_result:
        found = look(place)
        os.unlink(place)
        os.mkfifo(place)
        return found

    monkeypatch.setattr("autoreg.persistence.os.stat", swap)
    with pytest.raises(ModelFileError, match="is a pipe or a device"):
        read_model(path)


def test_a_file_that_is_replaced_while_it_is_read(
    path: Path, tensors: Tensors, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_model(path, hostile.MODEL, tensors)
    parse = persistence.parse_header

    def swap(file: Any, size: int) -> Any:
        header = parse(file, size)
        os.replace(write_other(path), path)
        return header

    monkeypatch.setattr(persistence, "parse_header", swap)
    manifest, found = read_model(path)
    assert manifest == hostile.MODEL
    assert same(found, tensors)
    monkeypatch.undo()
    assert read_manifest(path) == {"other": True}


def write_other(path: Path) -> Path:
    other = path.with_name("other")
    other.write_bytes(hostile.pack(model={"other": True}))
    return other


def test_a_file_changed_while_it_is_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = {"w": torch.zeros(100_000)}  # longer than what a reader takes at once
    parse = persistence.parse_header
    for change, message in {
        lambda: os.truncate(path, 10_000): "became shorter while it was read",
        lambda: path.write_bytes(path.read_bytes()[:-1] + b"\1"): "its tensors do not match their checksum",
    }.items():
        write_model(path, {}, long, force=True)

        def swap(file: Any, size: int, change: Callable[[], Any] = change) -> Any:
            header = parse(file, size)
            change()
            return header

        with monkeypatch.context() as patch:
            patch.setattr(persistence, "parse_header", swap)
            with pytest.raises(ModelFileError, match=message):
                read_model(path)


def test_too_little_memory_is_said(path: Path, tensors: Tensors, monkeypatch: pytest.MonkeyPatch) -> None:
    write_model(path, {}, tensors)

    def fail(*arguments: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(np, "empty", fail)
    with pytest.raises(ModelFileError, match="needs more memory than there is"):
        read_model(path)
