"""The journal of a search: what is finished is on disk, and is recalled instead of trained again.

A run directory holds ``journal``, one record a line, and a safetensors file for the numbers of each finished unit. A
record is written at once and synced; a file is written under another name, synced and renamed before the record that
names it. So whatever moment the process ends at, what the journal names is there.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from safetensors.torch import load, save
from torch import Tensor

from autoreg.errors import JournalWarning, OptionError
from autoreg.identity import differences
from autoreg.records import as_line, dumps, from_line, pack, unpack
from autoreg.space import Candidate
from autoreg.writers import sync_directory

try:
    import fcntl
except ImportError:  # Windows has none: there, nobody looks whether another process writes
    fcntl = None  # type: ignore[assignment]

FORMAT = 1
NAME = "journal"
BEAT = 10.0
"""Seconds without a record after which the next epoch writes one, for the account of a time limit."""
UNIT_FILE = re.compile(r"unit-\d+\.safetensors(\.tmp)?")


class Unkept:
    """What a search asks of a journal, where none is kept."""

    def __init__(self) -> None:
        self._begin, self._before = time.perf_counter(), 0.0

    def count_from(self, begin: float) -> None:
        """Set when this session began, on the clock of `time.perf_counter`."""
        self._begin = begin

    @property
    def elapsed(self) -> float:
        """Seconds that the search has taken, those before a crash among them."""
        return self._before + time.perf_counter() - self._begin

    @property
    def seed(self) -> int | None:
        """The seed that the search began with; None for a new one."""
        return None

    def begin(self, identity: Mapping[str, Any]) -> None:
        """Say which search it is."""

    def stacks(self, first: int | None = None, count: int = 0) -> tuple[int, int]:
        """Finished and planned stacks; `count` of a proposal that begins with candidate `first` are planned."""
        return 0, 0

    def fact(self, name: str) -> Any:
        """What `note_fact` kept under a name; None for nothing."""

    def note_fact(self, name: str, value: Any) -> None:
        """Keep a small JSON value under a name; the last one counts."""

    def beat(self) -> None:
        """Be told that the search is still at work."""

    def proposal(self, first: int, propose: Callable[[], Sequence[Candidate]]) -> list[Candidate]:
        """The strategy's answer once `first` candidates are done: as it was, or asked for."""
        return list(propose())

    def has_proposal(self, first: int) -> bool:
        """Whether the strategy was asked before, once `first` candidates were done."""
        return False

    def has(self, key: str) -> bool:
        """Whether a unit was noted."""
        return False

    def recall(self, key: str) -> Any:
        """What was noted of a unit; None where it has to be computed."""

    def note(self, key: str, value: Any) -> None:
        """Keep a finished unit: JSON values, tensors and arrays, in lists, tuples and dicts."""

    def tell(self) -> None:
        """Warn, once, that the disk takes no more."""

    def close(self) -> None:
        """Let others have the directory."""


class Journal(Unkept):
    """The journal in a run directory, held by this process until `close`.

    Parameters
    ----------
    directory : path
        Made where it is not there; the directory it lies in must exist.

    Raises
    ------
    OptionError
        When another process holds it, it holds something else, or nothing can be written there.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> folder = tempfile.mkdtemp() + "/price.run"
    >>> journal = Journal(folder)
    >>> journal.begin({"seed": 0})
    >>> journal.note("stack 0", [{"score": -1.5, "oof": np.zeros(2)}])
    >>> journal.close()
    >>> Journal(folder).recall("stack 0")
    [{'score': -1.5, 'oof': array([0., 0.])}]
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        super().__init__()
        self.directory = Path(directory)
        self._lock = threading.Lock()
        self._header: dict[str, Any] | None = None
        self._facts: dict[str, Any] = {}
        self._units: dict[str, dict[str, Any]] = {}
        self._trouble, self._told, self._told_at = "", False, 0.0
        try:
            if not self.directory.is_dir():
                self.directory.mkdir()
            elif not (self.directory / NAME).exists() and any(self.directory.iterdir()):
                raise OptionError(f"run directory '{self.directory}' holds other files: give a name of its own")
            self._file = self._held()
            try:
                self._open()
            except BaseException:
                os.close(self._file)
                raise
            self._new = self._header is None
        except OSError as error:
            raise self._unusable(error) from error

    def _held(self) -> int:
        """The journal's file, opened and locked; the kernel frees the lock with the process, however that ends."""
        file = os.open(self.directory / NAME, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            if fcntl:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # whoever held it before may have removed it
            if not os.path.samestat(os.fstat(file), os.stat(self.directory / NAME)):
                raise FileNotFoundError(2, "it was removed just now")
        except BlockingIOError:
            os.close(file)
            raise OptionError(
                f"run directory '{self.directory}' is in use by another process: wait for its end, or give another "
                f"one (--run-dir)"
            ) from None
        except BaseException:
            os.close(file)
            raise
        return file

    def _open(self) -> None:
        """Read up to the first record that is not whole, go on from there, and sweep what no record names."""
        whole = 0
        for line in (self.directory / NAME).read_bytes().splitlines(keepends=True):
            record = from_line(line)
            if record is None:
                break
            whole += len(line)
            self._take(record)
        if whole < os.fstat(self._file).st_size:
            os.ftruncate(self._file, whole)
            os.fsync(self._file)
        self._size = whole
        named = {unit["file"] for unit in self._units.values()}
        for path in self.directory.iterdir():
            if UNIT_FILE.fullmatch(path.name) and path.name not in named:
                path.unlink()
        sync_directory(self.directory)

    def _take(self, record: dict[str, Any]) -> None:
        self._before = max(self._before, record["elapsed"])
        kind = record["kind"]
        if kind == "header":
            self._header = record
        elif kind == "fact":
            self._facts[record["name"]] = record["value"]
        else:
            self._units[record["key"]] = record

    def _unusable(self, error: OSError) -> OptionError:
        return OptionError(
            f"run directory '{self.directory}': nothing can be written there: {error.strerror or error}; "
            f"give another one (--run-dir)"
        )

    @property
    def seed(self) -> int | None:
        return None if self._header is None else self._header["identity"].get("seed")

    def begin(self, identity: Mapping[str, Any]) -> None:
        """Say which search it is: of a new journal the first record, and otherwise the one that it must have.

        Raises
        ------
        OptionError
            When the directory holds another search; says what differs.
        """
        if self._header is None:
            try:
                self._append({"kind": "header", "format": FORMAT, "identity": identity})
            except OSError as error:
                raise self._unusable(error) from error
            return
        before = self._header["identity"] if self._header["format"] == FORMAT else {"journal": self._header["format"]}
        different = differences(before, json.loads(dumps(identity)))
        if different:
            raise OptionError(
                f"run directory '{self.directory}' holds another search ({different}): repeat that one, give another "
                f"directory (--run-dir), or delete this one to begin anew"
            )

    def stacks(self, first: int | None = None, count: int = 0) -> tuple[int, int]:
        planned = self.fact("stacks") or {}
        if first is not None and str(first) not in planned:
            planned = {**planned, str(first): count}
            self.note_fact("stacks", planned)
        return sum(key.startswith("stack ") for key in self._units), sum(planned.values())

    def fact(self, name: str) -> Any:
        return self._facts.get(name)

    def note_fact(self, name: str, value: Any) -> None:
        self._try({"kind": "fact", "name": name, "value": value})

    def beat(self) -> None:
        """Keep how long the search has taken, where no record has done so for a while."""
        if self.elapsed - self._told_at >= BEAT:
            self.note_fact("beat", None)

    def proposal(self, first: int, propose: Callable[[], Sequence[Candidate]]) -> list[Candidate]:
        """The strategy's answer once `first` candidates are done.

        What JSON can hold is not asked for twice. Otherwise the strategy is asked again; where it then proposes
        something else, that is trained anew.
        """
        name = f"proposal {first}"
        known = self.fact(name)
        if known is not None and known["parameters"] is not None:
            return [Candidate(parameters) for parameters in known["parameters"]]
        candidates = list(propose())
        fingerprints = [candidate.fingerprint for candidate in candidates]
        written = _as_written(candidates)
        if known is None or known["fingerprints"] != fingerprints:
            parameters = None if written is None else [dict(candidate.parameters) for candidate in written]
            self.note_fact(name, {"fingerprints": fingerprints, "parameters": parameters})
        return candidates if written is None else written

    def has_proposal(self, first: int) -> bool:
        return self.fact(f"proposal {first}") is not None

    def has(self, key: str) -> bool:
        return key in self._units

    def recall(self, key: str) -> Any:
        unit = self._units.get(key)
        if unit is None:
            return None
        tensors: dict[str, Tensor] = {}
        if unit["file"]:
            try:
                data = (self.directory / unit["file"]).read_bytes()
            except OSError:
                return None
            if hashlib.sha256(data).hexdigest() != unit["sha256"]:
                return None
            tensors = load(data)
        return unpack(unit["value"], tensors)

    def note(self, key: str, value: Any) -> None:
        tensors: dict[str, Tensor] = {}
        record = {"kind": "unit", "key": key, "value": pack(value, tensors), "file": "", "sha256": ""}
        self._try(record, tensors)

    def _try(self, record: dict[str, Any], tensors: Mapping[str, Tensor] | None = None) -> None:
        """Keep a record and its tensors; where the disk takes no more, the search goes on without."""
        with self._lock:
            if self._trouble:
                return
            try:
                if tensors:
                    data = save({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()})
                    record["file"] = self._write(data)
                    record["sha256"] = hashlib.sha256(data).hexdigest()
                self._append(record)
            except OSError as error:
                self._trouble = error.strerror or str(error)
                if record.get("file"):  # no record names it
                    with suppress(OSError):
                        (self.directory / record["file"]).unlink()

    def _write(self, data: bytes) -> str:
        """A file of its own, whole or not there."""
        taken = [path.name for path in self.directory.iterdir()]
        name = next(name for i in range(len(taken) + 1) if (name := f"unit-{i}.safetensors") not in taken)
        draft = self.directory / f"{name}.tmp"
        try:
            with open(draft, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(draft, self.directory / name)
        except OSError:
            with suppress(OSError):
                draft.unlink()
            raise
        sync_directory(self.directory)
        return name

    def _append(self, record: dict[str, Any]) -> None:
        record["elapsed"] = self._told_at = round(self.elapsed, 3)
        line = as_line(record)
        try:
            if os.write(self._file, line) < len(line):
                raise OSError(28, "No space left on device")
            os.fsync(self._file)
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._file, self._size)
            raise
        self._size += len(line)
        # of what is written, what a later session will read
        self._take({**json.loads(line[9:]), "elapsed": 0.0})

    def tell(self) -> None:
        """Warn, once, that the disk takes no more.

        Warns
        -----
        JournalWarning
        """
        if self._trouble and not self._told:
            self._told = True
            warnings.warn(
                f"the journal in '{self.directory}' ends here: {self._trouble}; the search goes on, and a crash would "
                f"lose what comes now",
                JournalWarning,
                stacklevel=2,
            )

    def close(self) -> None:
        """Let others have the directory; one in which nothing came to be goes."""
        if self._file >= 0:
            if self._new and not self._units:
                remove(self.directory)
            os.close(self._file)
            self._file = -1


def remove(directory: str | os.PathLike[str]) -> None:
    """Remove a run directory: the files that are a journal's, and the directory when nothing else is in it."""
    directory = Path(directory)
    with suppress(OSError):
        for path in sorted(directory.iterdir(), key=lambda path: path.name == NAME):  # the journal last
            if path.name == NAME or UNIT_FILE.fullmatch(path.name):
                path.unlink()
        directory.rmdir()


def _as_written(candidates: Sequence[Candidate]) -> list[Candidate] | None:
    """The candidates as JSON gives them back; None where that would be others."""
    try:
        back = [Candidate(json.loads(dumps(dict(candidate.parameters)))) for candidate in candidates]
    except (TypeError, ValueError):
        return None
    same = all(one.fingerprint == other.fingerprint for one, other in zip(candidates, back, strict=True))
    return back if same else None


__all__ = ["Journal", "Unkept", "remove"]
