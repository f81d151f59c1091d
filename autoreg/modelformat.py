"""The bytes of a model file, without a file: what its header says, and what is checked in it.

A model file is a safetensors file: 8 bytes that say how long the header is, the header in JSON, and the tensors' bytes
one after the other. Its metadata hold two texts: ``autoreg``, the envelope in JSON, and ``autoreg_sha256``, the
envelope's checksum. The envelope is::

    {"format": "autoreg-model", "format_version": 1,
     "sha256": checksum of all bytes after the header,
     "tensors": [[name, dtype, shape], ...] in the order of their bytes,
     "model": the manifest that was given to `persistence.write_model`}

So no key of the manifest is reserved, and `persistence.read_manifest` gives back what was given. The rest of the header
follows from the envelope: a file whose header differs from the one that `make_head` makes is refused.

Messages of errors begin where the file's name ends. ``docs/reference/model-file.md`` tells the same at length.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from io import BufferedIOBase
from typing import Any

from autoreg.errors import ModelFileError
from autoreg.strictjson import quoted, read_json

FORMAT_VERSION = 1
MAX_FILE = 2 << 30
MAX_HEADER = 16 << 20
MAX_TENSORS = 10_000
MAX_NAME = 512
MAX_AXES = 16
MAX_DIMENSION = 2**31 - 1

DTYPES = {"F64": ("float64", 8), "F32": ("float32", 4), "I64": ("int64", 8), "I32": ("int32", 4), "BOOL": ("bool", 1)}
"""Code in the file -> name in torch and numpy, bytes an element."""

CODES = {name: code for code, (name, _) in DTYPES.items()}
_BAD_NAME = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\\]|\.\.|^/|^[A-Za-z]:|^__metadata__$|^$")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class TensorEntry:
    """What a file says about one tensor.

    Attributes
    ----------
    name : str
    dtype : str
        A key of `DTYPES`.
    shape : tuple of int
    """

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def n_bytes(self) -> int:
        count = DTYPES[self.dtype][1]
        for length in self.shape:
            count *= length
        return count


@dataclass(frozen=True)
class Header:
    """All that a file says before its tensors' bytes.

    Attributes
    ----------
    model : dict
        The manifest that was given to `write_model`.
    format_version : int
    sha256 : str
        Checksum of the bytes after the header.
    tensors : tuple of TensorEntry
        In the order of their bytes.
    """

    model: dict[str, Any]
    format_version: int
    sha256: str
    tensors: tuple[TensorEntry, ...]


def make_head(envelope: str, entries: list[TensorEntry] | tuple[TensorEntry, ...]) -> bytes:
    """The file up to the tensors' bytes, which follows from the envelope."""
    fields: dict[str, Any] = {"__metadata__": {"autoreg": envelope, "autoreg_sha256": _checksum(envelope)}}
    start = 0
    for entry in entries:
        end = start + entry.n_bytes
        fields[entry.name] = {"dtype": entry.dtype, "shape": list(entry.shape), "data_offsets": [start, end]}
        start = end
    header = dumps(fields).encode("ascii")
    header += b" " * (-len(header) % 8)
    if len(header) > MAX_HEADER:
        raise ModelFileError(f"has a header of {len(header)} bytes, and the limit is {MAX_HEADER}")
    return len(header).to_bytes(8, "little") + header


def dumps(value: dict[str, Any]) -> str:
    """The one way in which a value is written, so that equal values give equal bytes."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def parse_header(file: BufferedIOBase, size: int) -> Header:
    """Read the header of an open file of `size` bytes. Messages lack the file's name."""
    start = file.read(512)
    if not start:
        raise ModelFileError("is empty")
    length = int.from_bytes(start[:8], "little")
    if len(start) < 9 or start[8:9] != b"{" or length > MAX_HEADER:
        raise ModelFileError(_what_it_is(start, length))
    if 8 + length > size:
        raise ModelFileError(f"is cut short: its header alone takes {8 + length} bytes, the file has {size}")
    file.seek(8)
    raw = file.read(length)
    outer = read_json(raw, "header", max_string=MAX_HEADER)
    metadata = outer.get("__metadata__") if isinstance(outer, dict) else None
    if not isinstance(metadata, dict) or not isinstance(metadata.get("autoreg"), str):
        raise ModelFileError("is a safetensors file that autoreg did not write: it has no autoreg manifest")
    text = metadata["autoreg"]
    if _checksum(text) != metadata.get("autoreg_sha256"):
        raise ModelFileError("is damaged: its manifest does not match its checksum; copy or download it again")
    envelope = read_json(text, "manifest")
    if not isinstance(envelope, dict) or envelope.get("format") != "autoreg-model":
        raise ModelFileError("has a manifest that is not of the form that autoreg writes")
    version = envelope.get("format_version")
    if type(version) is int and version > FORMAT_VERSION:
        raise ModelFileError(
            f"has format {version}, and this autoreg reads formats up to {FORMAT_VERSION}: update autoreg"
        )
    if type(version) is not int or version < 1:
        raise ModelFileError(f"has format version {quoted(version)}, which never was one")
    if set(envelope) != {"format", "format_version", "sha256", "tensors", "model"}:
        raise ModelFileError("has a manifest with missing or unknown fields")
    digest, model = envelope["sha256"], envelope["model"]
    if not isinstance(digest, str) or not _SHA256.fullmatch(digest):
        raise ModelFileError(f"has a checksum that is none: {quoted(digest)}")
    if not isinstance(model, dict):
        raise ModelFileError("has a manifest whose 'model' is not a JSON object")
    entries = _read_entries(envelope["tensors"])
    total = 8 + length + sum(entry.n_bytes for entry in entries)
    if total > size:
        raise ModelFileError(f"is cut short: its header says {total} bytes, the file has {size}")
    if total < size:
        raise ModelFileError(f"has {size - total} bytes more than its header says")
    names = {"__metadata__", *(entry.name for entry in entries)}
    for name in sorted(names ^ set(outer)):
        raise ModelFileError(f"has a tensor {quoted(name)} that only one of manifest and header knows")
    # All that is left to differ: offsets, order, extra fields, spaces. A file of ours differs in none of them.
    if make_head(text, entries)[8:] != raw:
        raise ModelFileError("has a header that does not follow from its manifest")
    return Header(model, version, digest, entries)


def _read_entries(listed: Any) -> tuple[TensorEntry, ...]:
    """Check the envelope's list of tensors."""
    if not isinstance(listed, list) or len(listed) > MAX_TENSORS:
        raise ModelFileError(f"has no list of at most {MAX_TENSORS} tensors in its manifest")
    entries = []
    for item in listed:
        match item:
            case [str() as name, str() as dtype, list() as shape]:
                entries.append(check_entry(name, dtype, shape))
            case _:
                raise ModelFileError(f"has a tensor that is not [name, dtype, shape]: {quoted(item)}")
    if len({entry.name for entry in entries}) != len(entries):
        raise ModelFileError("has two tensors of one name")
    return tuple(entries)


def check_entry(name: str, dtype: str, shape: list[Any] | tuple[int, ...]) -> TensorEntry:
    """Check what is said about one tensor, before anything is allocated for it."""
    if len(name) > MAX_NAME or _BAD_NAME.search(name):
        raise ModelFileError(f"has a tensor name that is not allowed: {quoted(name)}")
    if dtype not in DTYPES:
        raise ModelFileError(f"has tensor {quoted(name)} of type {quoted(dtype)}; allowed: {', '.join(DTYPES)}")
    if len(shape) > MAX_AXES or not all(type(length) is int and 0 <= length <= MAX_DIMENSION for length in shape):
        raise ModelFileError(f"has tensor {quoted(name)} of a shape that is not allowed: {quoted(shape)}")
    # Strides count an empty axis as one: with it the product must still fit into 64 bits.
    if TensorEntry(name, dtype, tuple(length or 1 for length in shape)).n_bytes >= 1 << 62:
        raise ModelFileError(f"has tensor {quoted(name)} of a shape that is not allowed: {quoted(shape)}")
    return TensorEntry(name, dtype, tuple(shape))


_KINDS = (
    (rb"PK\x03\x04|PK\x05\x06", "a zip archive (torch.save and skops write such)"),
    # A header's length may begin as a pickle does, but goes on with zeros.
    (rb"\x80[\x00-\x05](?!.\0{5})|c[\w.]+\n\w+\n[(pq]|\((?:c\w|i\w|[dl]p\d|[SV]['\"])|[])}]q\0", "a pickle file"),
    (rb"\x1f\x8b", "a gzip file (joblib.dump may write such)"),
    (rb"\x78[\x01\x5e\x9c\xda]", "a zlib file (joblib.dump may write such)"),
    (rb"BZh[1-9]|\xfd7zXZ|\x28\xb5\x2f\xfd|\x04\x22\x4d\x18|\x5d\x00\x00", "a compressed file"),
    (rb"PAR1", "a parquet table"),
    (rb"ARROW1|FEA1", "a feather table"),
    (rb"\x89HDF", "an HDF5 file (Keras writes such)"),
    (rb"\x93NUMPY", "a numpy array"),
    (rb".{257}ustar", "a tar archive"),
    (rb"version https://git-lfs", "a Git LFS pointer ('git lfs pull' fetches the file)"),
    (rb"\s*<(?:!|html|HTML|\?xml)", "a web page (a failed download?)"),
    (rb"[\t\n\r\x20-\x7e][\t\n\r\x20-\x7e\x80-\xff]*\Z", "a text file"),
)


def _what_it_is(start: bytes, length: int) -> str:
    """Say what a file looks like that does not begin as ours."""
    if start[5:9] == b"\0\0\0{":
        return f"says that its header has {length} bytes, and the limit is {MAX_HEADER}"
    for pattern, kind in _KINDS:
        if re.match(pattern, start, re.DOTALL):
            return f"is {kind}, not an autoreg model; nothing was run"
    if len(start) < 9:
        return f"is cut short: it has {len(start)} bytes"
    return "is not an autoreg model: it does not begin as a safetensors file does"
