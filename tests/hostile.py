"""Files that an attacker, a broken disk or a hasty user might hand to `load`.

They are packed here by hand, from the reference page alone, so that our own writer is not asked about itself.
``python tests/hostile.py`` prints how many there are. ``python tests/hostile.py FOLDER`` reads every file of a folder
with little memory to spare and prints what came of each, as JSON.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import lzma
import pickle
import random
import struct
import sys
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

MEMORY = 200 << 20
"""What reading any hostile file may take, in bytes."""

MODEL = {"target": "price", "scores": [1.5, None, -2], "deep": {"a": [{"b": "c"}]}, "text": 'quotes " and \\ and é'}
TENSORS = [["big", "F64", [2]], ["id", "I64", [2]], ["code", "I32", []], ["none", "F32", [0, 4]],
           ["weight", "F32", [3, 4]], ["flag", "BOOL", [3]]]  # fmt: skip
BLOCK = struct.pack("<2d2qi12f3?", 0.5, -0.25, 7, -(2**40), -5, *(i / 8 for i in range(12)), True, False, True)
SIZES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "BOOL": 1}


def dumps(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def sha256(data: bytes | str) -> str:
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()


def envelope(block: bytes = BLOCK, **changes: Any) -> dict[str, Any]:
    """A good envelope with some of its fields changed, or left out where the change is `...`."""
    good = {"format": "autoreg-model", "format_version": 1, "sha256": sha256(block), "tensors": TENSORS, "model": MODEL}
    return {key: value for key, value in {**good, **changes}.items() if value is not ...}


def entries(tensors: Iterable[list[Any]]) -> dict[str, Any]:
    """The header's entries of tensors that lie one after the other."""
    fields, start = {}, 0
    for name, dtype, shape in tensors:
        end = start + SIZES[dtype]
        for length in shape:
            end = start + (end - start) * length
        fields[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
        start = end
    return fields


def metadata(text: str) -> dict[str, str]:
    return {"autoreg": text, "autoreg_sha256": sha256(text)}


def frame(header: bytes | str, block: bytes = BLOCK, pad: bool = True) -> bytes:
    """The length, the header, the tensors' bytes."""
    header = header.encode() if isinstance(header, str) else header
    header += b" " * (-len(header) % 8 if pad else 0)
    return struct.pack("<Q", len(header)) + header + block


def pack(block: bytes = BLOCK, *, text: str | None = None, fields: Any = None, **changes: Any) -> bytes:
    """A file with right checksums: good but for what is given."""
    text = dumps(envelope(block, **changes)) if text is None else text
    fields = entries(changes.get("tensors", TENSORS)) if fields is None else fields
    return frame(dumps({"__metadata__": metadata(text), **fields}), block)


class File(NamedTuple):
    """A hostile file. One that is longer than its content goes on with zeros that take no room on the disk."""

    name: str
    content: bytes
    size: int = 0

    @property
    def kind(self) -> str:
        return self.name.partition("/")[0]

    def write(self, path: Path) -> None:
        with open(path, "wb") as file:
            file.write(self.content)
            file.truncate(max(self.size, len(self.content)))


class Payload:
    """Unpickled, it runs a command that makes the marker file."""

    def __init__(self, marker: str) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        import os

        return os.system, (f"touch '{self.marker}'",)


def corpus(marker: str) -> Iterator[File]:
    """All hostile files. `marker` is a file that appears when a file's code has run."""
    yield from (File(*parts) for parts in payloads(marker))
    for family in strangers, damaged, headers, manifests, versions, envelopes, names, shapes, layouts, values:
        yield from (File(*parts) for parts in family())


def strangers() -> Iterator[tuple[str, bytes]]:
    """Files of other kinds."""
    draw = random.Random(0)
    yield "stranger/empty", b""
    yield "stranger/seven bytes", b"\x10" + bytes(6)
    yield "stranger/eight bytes", b"\x10" + bytes(7)
    yield "stranger/random", draw.randbytes(1024)
    yield "stranger/zeros", bytes(1024)
    yield "stranger/csv", b"area,price\n" + b"30,100\n" * 100
    yield "stranger/latin-1", "größe,preis\n30,100\n".encode("latin-1")
    yield "stranger/utf-16", "area,price\n30,100\n".encode("utf-16")
    yield "stranger/json", dumps(envelope()).encode()
    yield "stranger/web page", b"<!DOCTYPE html>\n<html><body>404</body></html>"
    yield "stranger/lfs pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n"
    yield "stranger/parquet", b"PAR1" + draw.randbytes(500) + b"PAR1"
    yield "stranger/feather", b"ARROW1\0\0" + draw.randbytes(500)
    yield "stranger/hdf5", b"\x89HDF\r\n\x1a\n" + draw.randbytes(500)
    yield "stranger/numpy", b"\x93NUMPY\x01\0v\0{'descr': '<f8', 'fortran_order': False, 'shape': (1,), }"
    yield "stranger/gzip", gzip.compress(pack())
    yield "stranger/zlib", zlib.compress(pack())
    yield "stranger/bzip2", bz2.compress(pack())
    yield "stranger/xz", lzma.compress(pack())
    yield "stranger/zstandard", b"\x28\xb5\x2f\xfd" + draw.randbytes(500)
    yield "stranger/elf", b"\x7fELF\x02\x01\x01" + bytes(500)
    yield "stranger/script", b"#!/bin/sh\necho hello\n"
    tar, archive = io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as file:
        file.addfile(tarfile.TarInfo("../evil"))
    yield "stranger/tar", tar.getvalue()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("../evil", b"x")
        file.writestr("bomb", bytes(5_000_000))
    yield "stranger/zip", archive.getvalue()
    yield "stranger/empty zip", b"PK\x05\x06" + bytes(18)
    plain = {"weight": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
    yield "stranger/safetensors", frame(dumps(plain), bytes(4))
    yield "stranger/safetensors with metadata", frame(dumps({"__metadata__": {"format": "pt"}, **plain}), bytes(4))


def payloads(marker: str) -> Iterator[tuple[str, bytes]]:
    """Files that run code when they are unpickled, and files of ours with such a one in front or behind."""
    import joblib
    import torch

    evil = Payload(marker)
    for protocol in range(6):
        yield f"pickle/protocol {protocol}", pickle.dumps(evil, protocol)
        yield f"pickle/in a dict, protocol {protocol}", pickle.dumps({"weight": [1.0, evil]}, protocol)
    for compress in (0, ("zlib", 3), ("gzip", 3), ("bz2", 3), ("lzma", 3)):
        into = io.BytesIO()
        joblib.dump(evil, into, compress=compress)
        yield f"joblib/{compress}", into.getvalue()
    for modern in (True, False):
        into = io.BytesIO()
        torch.save({"weight": torch.ones(2), "evil": evil}, into, _use_new_zipfile_serialization=modern)
        yield f"torch/{'zip' if modern else 'legacy'}", into.getvalue()
        yield f"torch/{'zip' if modern else 'legacy'} behind a model", pack() + into.getvalue()
    yield "pickle/before a model", pickle.dumps(evil) + pack()
    yield "pickle/behind a model", pack() + pickle.dumps(evil)
    yield "pickle/as the tensors", pack(pickle.dumps(evil).ljust(len(BLOCK), b"."), sha256=sha256(BLOCK))
    skops = io.BytesIO()
    with zipfile.ZipFile(skops, "w") as file:
        file.writestr("schema.json", dumps({"__class__": "system", "__module__": "os", "__loader__": "FunctionNode"}))
    yield "pickle/skops", skops.getvalue()


def damaged() -> Iterator[tuple[str, bytes]]:
    """A good file, cut, with one bit flipped, or with a block of it lost."""
    good = pack()
    for part in range(64):
        yield f"cut/{part} of 64", good[: len(good) * part // 64]
    yield "cut/last byte", good[:-1]
    for i in range(256):
        place = i * len(good) // 256
        yield f"flipped/byte {place}", good[:place] + bytes([good[place] ^ (1 << i % 8)]) + good[place + 1 :]
    yield "longer/one byte", good + b"\0"
    yield "longer/itself", good + good
    yield "longer/64 KiB", good + bytes(1 << 16)
    for lost in (8, 64, 512):
        yield f"lost/{lost} bytes become zero", good[:256] + bytes(lost) + good[256 + lost :]
        yield f"lost/{lost} bytes missing", good[:256] + good[256 + lost :]
    yield "lost/line ends", good.replace(b"\0", b"\r\n")
    yield "large/zeros", b"", 3 << 30
    yield "large/good start", good, 3 << 30
    yield "large/claims its size", pack(b"", tensors=[["w", "F32", [900_000_000]]]), 3 << 30
    long = pack(b"", tensors=[["w", "F32", [20_000_000]]])
    yield "large/wrong checksum of 80 MB", long, len(long) + 80_000_000


def headers() -> Iterator[tuple[str, bytes]]:
    """Header lengths and the outer JSON."""
    good = pack()
    length = int.from_bytes(good[:8], "little")
    for lie in (0, 1, 2, length - 8, length - 1, length + 1, length + 8, length + len(BLOCK), 1 << 24, (1 << 24) + 1,
                200 << 20, 1 << 31, 1 << 32, 1 << 40, 1 << 63, (1 << 64) - 1):  # fmt: skip
        yield f"length/{lie}", struct.pack("<Q", lie) + good[8:]
    yield "length/true and too long", frame(b"{" + b" " * (17 << 20) + b"}")
    text = dumps(envelope())
    fields: dict[str, Any] = {"__metadata__": metadata(text), **entries(TENSORS)}
    header = dumps(fields)
    yield "header/not json", frame("{weight}")
    yield "header/list", frame("{" + header[1:-1] + "]")
    yield "header/empty object", frame("{}")
    yield "header/not utf-8", frame(header.encode().replace(b"weight", b"we\xffght"))
    yield "header/utf-8", frame(header.replace("weight", "wëght"))
    yield "header/byte order mark", frame(b"\xef\xbb\xbf" + header.encode())
    yield "header/leading space", frame(" " + header)
    yield "header/space inside", frame(header.replace('","', '", "', 1))
    yield "header/new line behind", frame(header + "\n")
    yield "header/tabs behind", frame(header + "\t" * (8 + -len(header) % 8), pad=False)
    yield "header/eight more spaces", frame(header + " " * (8 + -len(header) % 8), pad=False)
    yield "header/two objects", frame(header + header)
    yield "header/escaped letter", frame(header.replace('"weight"', '"w\\u0065ight"'))
    yield "header/single quotes", frame("{'__metadata__':{}}")
    yield "header/trailing comma", frame(header[:-1] + ",}")
    yield "header/comment", frame(header[:-1] + "/* */}")
    yield "header/deep lists", frame('{"a":' + "[" * 100_000 + "]" * 100_000 + "}")
    yield "header/deep objects", frame('{"a":' * 100_000 + "1" + "}" * 100_000)
    yield "header/deep and open", frame('{"a":' + "[" * 10_000_000)
    yield "header/quotes only", frame("{" + '"' * 16_000_000)
    yield "header/backslashes only", frame('{"' + "\\" * 16_000_000)
    yield "header/escaped quotes only", frame('{"' + '\\"' * 8_000_000)
    yield "header/commas only", frame("{" + "," * 16_000_000)
    yield "header/many short strings", frame('{"a":[' + ",".join(['"ab"'] * 3_000_000) + "]}")
    yield "header/many keys", frame("{" + ",".join(f'"{i}":1' for i in range(1_300_000)) + "}")
    yield "header/duplicate tensor", frame(header[:-1] + ',"weight":' + dumps(fields["weight"]) + "}")
    yield "header/duplicate metadata", frame(header[:-1] + ',"__metadata__":{}}')
    yield "header/duplicate field", frame(header.replace('"dtype":"F32"', '"dtype":"F64","dtype":"F32"', 1))
    for i, meta in enumerate((
        None, [], "x", {}, {"autoreg": 1}, {"autoreg": None}, {"autoreg": ["x"]}, {"autoreg": envelope()},
        {"autoreg": text}, {"autoreg": text, "autoreg_sha256": 0}, {**metadata(text), "more": "x"},
        {**metadata(text), "more": 1}, {"autoreg_sha256": sha256(text), "autoreg": text},
    )):  # fmt: skip
        yield f"metadata/{i}", frame(dumps({**fields, "__metadata__": meta}))
    yield "metadata/last", frame(dumps({**entries(TENSORS), "__metadata__": metadata(text)}))
    yield "metadata/missing", frame(dumps(entries(TENSORS)))


def manifests() -> Iterator[tuple[str, bytes]]:
    """JSON that is unfit, with a checksum that is right."""
    good = dumps(envelope())

    def model(text: str) -> bytes:
        return pack(text=good.replace(dumps(MODEL), text))

    for name, text in {
        "empty": "", "null": "null", "number": "1", "text": '"x"', "list": "[]", "cut": good[:-1], "two": good * 2,
        "python": repr(envelope()), "expression": "__import__('os').system('true')",
    }.items():  # fmt: skip
        yield f"manifest/{name}", pack(text=text)
    for text in ("NaN", "Infinity", "-Infinity", "nan", "1e999", "-1e999", "01", "0x10", "1_000", "+1", "1.", ".5",
                 "True", str(2**63), str(-(2**63) - 1), "9" * 25, "9" * 100_000, "-" + "9" * 5000,
                 "0." + "9" * 100_000, "1" + "0" * 400 + ".0", "1e" + "9" * 100_000, '"a\nb"', '"a\0b"', '"\\x41"',
                 '"\\ud800"', '"\\udc00 \\ud800"', '{"a":1,"a":1}', '{"a":{"b":1,"c":2,"b":3}}', '{"\\ud800":1}',
                 "{1:2}", "[1 2]", "[1,]", "{,}"):  # fmt: skip
        yield f"manifest/value {text[:20]!r} of {len(text)}", model('{"a":' + text + "}")
    for depth in (63, 64, 1000, 100_000):
        yield f"manifest/depth {depth}", model('{"a":' + "[" * depth + "]" * depth + "}")
    yield "manifest/closed before it is open", model('{"a":' + "]" * 100 + "[" * 100_000 + "}")
    yield "manifest/not ascii", pack(text=good.replace("price", "\u4e2d" * 100))
    yield "manifest/string of 2 MiB", model(dumps({"a": "x" * (2 << 20)}))
    yield "manifest/string of 15 MiB", model(dumps({"a": "x" * (15 << 20)}))
    yield "manifest/string of 100 MB", struct.pack("<Q", 100_000_000) + good[:-1].encode(), 100_001_000
    yield "manifest/key of 2 MiB", model(dumps({"x" * (2 << 20): 1}))
    yield "manifest/many numbers", model('{"a":[' + "1," * 2_000_000 + "1]}")
    yield "manifest/many empty objects", model('{"a":[' + "{}," * 1_200_000 + "1]}")
    yield "manifest/many nested lists", model('{"a":[' + "[[[]]]," * 400_000 + "1]}")
    yield "manifest/many keys", model("{" + ",".join(f'"{i}":1' for i in range(800_000)) + "}")
    yield "manifest/category of 10^7 levels", model('{"levels":[' + ",".join(["1"] * 7_000_000) + "]}")


def versions() -> Iterator[tuple[str, bytes]]:
    for version in (2, 999, 2**62, 0, -1, "1", "", 1.0, 1.5, True, False, None, [1], {"a": 1}, ...):
        yield f"version/{version}", pack(format_version=version)
    for name in ("autoreg", "Autoreg-Model", "", 1, None, ["autoreg-model"], ...):
        yield f"version/format {name}", pack(format=name)


def envelopes() -> Iterator[tuple[str, bytes]]:
    """Fields of the envelope that are missing, surplus or of the wrong kind."""
    for field in ("sha256", "tensors", "model"):
        yield f"envelope/no {field}", pack(**{field: ...}, fields=entries(TENSORS))
        for value in (None, 1, 1.5, True, "x"):
            yield f"envelope/{field} {value}", pack(**{field: value}, fields=entries(TENSORS))
    yield "envelope/model list", pack(model=[MODEL])
    yield "envelope/tensors dict", pack(tensors={"weight": "F32"}, fields=entries(TENSORS))
    yield "envelope/unknown field", pack(more=1)
    good = sha256(BLOCK)
    for digest in good.upper(), good[:-1], good + "0", sha256(b""), "0" * 64, "sha256:" + good, "g" * 64, "\uff10" * 64:
        yield f"envelope/sha256 {ascii(digest)[:12]} of {len(digest)}", pack(sha256=digest)
    for tensor in (None, 1, "weight", [], ["weight"], ["weight", "F32"], ["weight", "F32", [3, 4], [0, 48]],
                   ["weight", "F32", 12], ["weight", "F32", None], ["weight", "F32", "34"], ["weight", None, [3, 4]],
                   [1, "F32", [3, 4]], [["weight"], "F32", [3, 4]],
                   {"name": "weight", "dtype": "F32", "shape": [3, 4]}):  # fmt: skip
        tensors = [item if item[0] != "weight" else tensor for item in TENSORS]
        yield f"envelope/tensor {tensor}", pack(tensors=tensors, fields=entries(TENSORS))


def names() -> Iterator[tuple[str, bytes]]:
    """Names that are a path, not printable, too long or taken, in manifest and header alike."""
    for name in ("../../etc/passwd", "a/../b", "..", "/etc/passwd", "//host/share", "C:\\x", "C:/x", "c:", "a\\b",
                 "a\0b", "a\nb", "a\x1b[2Jb", "a\x7fb", "a\x85b", "", "__metadata__", "x" * 513, "x" * 100_000,
                 "\ud800"):  # fmt: skip
        tensors = [[name, *rest] if old == "weight" else [old, *rest] for old, *rest in TENSORS]
        yield f"name/{ascii(name)[:30]} of {len(name)}", pack(tensors=tensors)
    yield "name/twice in the manifest", pack(tensors=[*TENSORS, TENSORS[2]])
    for count in (10_001, 100_000):
        yield f"name/{count} tensors", pack(b"", tensors=[[str(i), "F32", [0]] for i in range(count)])


def shapes() -> Iterator[tuple[str, bytes]]:
    """Types and shapes, in manifest and header alike."""
    for dtype in ("U8", "I8", "I16", "U16", "U32", "U64", "F16", "BF16", "F8_E4M3", "C64", "f32", "float32", "object",
                  "O", "", "F32\0"):  # fmt: skip
        tensors = [[name, dtype if name == "weight" else old, shape] for name, old, shape in TENSORS]
        fields = entries(TENSORS)
        fields["weight"] = {**fields["weight"], "dtype": dtype}
        yield f"type/{dtype!r}", pack(tensors=tensors, fields=fields)
    huge = 2**31 - 1
    for shape in ([-3, -4], [-1], [12, -1], [3, 4.0], [3, "4"], [3, None], [3, True], [[3, 4]], [2**31], [0, 2**31],
                  [0, 2**40], [2**62], [2**63], [2**64], [huge] * 2, [huge] * 3, [2**16] * 4, [2**16 + 1] * 4,
                  [huge] * 16, [0] + [huge] * 15, [1] * 17, [1] * 100_000, [1e3, 1], [huge], [10**9], [13], [11],
                  [3, 5], []):  # fmt: skip
        tensors = [[name, dtype, shape if name == "weight" else old] for name, dtype, old in TENSORS]
        fields = entries(TENSORS)
        fields["weight"] = {**fields["weight"], "shape": shape}
        yield f"shape/{dumps(shape)[:40]} of {len(shape)}", pack(tensors=tensors, fields=fields)
        if all(type(length) is int for length in shape):
            yield f"shape/{dumps(shape)[:40]} of {len(shape)}, offsets too", pack(tensors=tensors)


def layouts() -> Iterator[tuple[str, bytes]]:
    """A header that does not agree with the manifest, or tensors that do not lie one after the other."""
    good = entries(TENSORS)

    def changed(name: str, **fields: Any) -> dict[str, Any]:
        return {**good, name: {**good[name], **fields}}

    (begin, end), size = good["weight"]["data_offsets"], len(BLOCK)
    for offsets in ([0, 48], [begin + 4, end + 4], [begin - 4, end - 4], [end, begin], [-48, 0], [begin, size],
                    [size, size + 48], [begin, 2**62], [2**63, 2**63 + 48], [2**64, 2**64 + 48], [begin],
                    [begin, end, end], [], None, "0", {"start": 0}, [float(begin), end], [str(begin), str(end)],
                    [True, 49]):  # fmt: skip
        yield f"layout/offsets {offsets}", pack(fields=changed("weight", data_offsets=offsets))
    yield "layout/alias", pack(fields=changed("big", data_offsets=good["id"]["data_offsets"]))
    yield "layout/empty tensor elsewhere", pack(fields=changed("none", data_offsets=[0, 0]))
    yield "layout/empty tensor at the end", pack(fields=changed("none", data_offsets=[size, size]))
    yield "layout/shape only in the header", pack(fields=changed("weight", shape=[4, 3]))
    yield "layout/shape with true", pack(fields=changed("none", shape=[False, 4]))
    yield "layout/type only in the header", pack(fields=changed("weight", dtype="I32"))
    yield "layout/unknown field", pack(fields=changed("weight", more=1))
    yield "layout/no shape", pack(fields={**good, "weight": {"dtype": "F32", "data_offsets": [begin, end]}})
    for entry in (None, [], 1, "x", {}, [begin, end]):
        yield f"layout/entry {entry}", pack(fields={**good, "weight": entry})
    yield "layout/fields in another order", pack(fields={**good, "weight": dict(reversed(good["weight"].items()))})
    yield "layout/tensors in another order", pack(fields=dict(reversed(good.items())))
    yield "layout/missing in the header", pack(fields={name: good[name] for name in good if name != "none"})
    yield "layout/surplus in the header", pack(fields={**good, "more": {**good["none"], "data_offsets": [size, size]}})
    yield "layout/missing in the manifest", pack(tensors=TENSORS[:-1], fields=good)
    yield "layout/missing in both, bytes left", pack(tensors=TENSORS[:-1])
    yield "layout/no tensors, bytes left", pack(tensors=[])
    yield "layout/surplus in both, bytes missing", pack(tensors=[*TENSORS, ["more", "F32", [4]]])
    yield "layout/no bytes", pack(b"", tensors=TENSORS)


def values() -> Iterator[tuple[str, bytes]]:
    """Bytes that are no number or no truth value, with checksums that are right."""
    start = entries(TENSORS)
    for name, value in {"nan": float("nan"), "inf": float("inf"), "-inf": float("-inf")}.items():
        for tensor, code in (("weight", "f"), ("big", "d")):
            first, last = start[tensor]["data_offsets"]
            width = struct.calcsize(code)
            for place in (first, last - width):
                block = BLOCK[:place] + struct.pack("<" + code, value) + BLOCK[place + width :]
                yield f"value/{name} in {tensor} at {place}", pack(block)
    for byte in (2, 128, 255):
        yield f"value/truth {byte}", pack(BLOCK[:-1] + bytes([byte]))


def check_folder(folder: Path) -> dict[str, list[str]]:
    """Read every file of a folder by both ways, and tell the errors' classes and messages.

    Long headers take their time, and both ways read them by the same code: `read_model` alone tries those.
    """
    import torch

    from autoreg.persistence import read_manifest, read_model

    torch.isfinite(torch.ones(1))  # what torch loads at its first use is not the file's fault
    _limit_memory()
    outcomes = {}
    for path in sorted(folder.iterdir()):
        with open(path, "rb") as file:
            long = path.stat().st_size > 1 << 20 and int.from_bytes(file.read(8), "little") > 1 << 20
        found = ["not tried", ""] if long else []
        for read in (read_model,) if long else (read_manifest, read_model):
            try:
                read(path)
                found += ["", ""]
            except BaseException as error:  # whatever comes out is what the test looks at
                found += [type(error).__name__, str(error)]
        outcomes[path.name] = found
    return outcomes


def _limit_memory() -> None:
    statistics = Path("/proc/self/statm")
    if statistics.exists():  # other systems have no such limit to set
        import resource

        used = int(statistics.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(check_folder(Path(sys.argv[1]))))
    else:
        counts = Counter(file.kind for file in corpus("marker"))
        for kind, count in counts.items():
            print(f"{count:5} {kind}")
        print(f"{counts.total():5} files")
