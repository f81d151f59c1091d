"""A journal's promises: whatever moment the process ends at, what was kept is there, and nothing else is believed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from autoreg import journal as module
from autoreg.errors import JournalWarning, OptionError
from autoreg.identity import _sources, differences, identity
from autoreg.journal import Journal, Unkept, remove
from autoreg.plugins import load_plugins
from autoreg.registry import Owner
from autoreg.space import Candidate

IDENTITY = {"option": {"effort": "quick"}, "seed": 0}
UNITS: dict[str, Any] = {
    "stack 0": [{"states": [{"w": torch.tensor([1.5, -0.0])}], "oof": np.array([[0.1], [np.nan]])}],
    "companion mean": {"scores": (-1.25, float("nan")), "failure": "", 3: [None, True]},
    "stack 1": [{"states": [{"n": torch.tensor([7], dtype=torch.int64)}], "oof": None}],
}


def filled(directory: Path, n: int = 3) -> Journal:
    journal = Journal(directory)
    journal.begin(IDENTITY)
    for key, value in list(UNITS.items())[:n]:
        journal.note(key, value)
    return journal


def same(one: Any, other: Any) -> bool:
    """Equal in types and bits."""
    if type(one) is not type(other):
        return False
    if isinstance(one, (torch.Tensor, np.ndarray)):
        first, second = np.asarray(one), np.asarray(other)
        return (first.dtype, first.shape, first.tobytes()) == (second.dtype, second.shape, second.tobytes())
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return repr(one) == repr(other)


def found(directory: Path) -> list[str]:
    """Which units a new journal knows; each as it was noted."""
    again = Journal(directory)
    try:
        again.begin(IDENTITY)
        known = [key for key in UNITS if again.has(key)]
        assert all(same(again.recall(key), UNITS[key]) for key in known)
        return known
    finally:
        again.close()


def test_what_was_noted_is_there(tmp_path: Path) -> None:
    journal = filled(tmp_path / "run")
    journal.note_fact("spent", {"seconds": 1.5})
    journal.note_fact("spent", {"seconds": 2.5})
    journal.stacks(0, 2)
    assert same(journal.recall("stack 0"), UNITS["stack 0"])
    journal.close()
    again = Journal(tmp_path / "run")
    assert again.fact("spent") == {"seconds": 2.5}
    assert again.fact("plan") is None
    assert again.recall("stack 9") is None
    assert again.stacks() == (2, 2)
    assert again.seed == 0
    assert again.elapsed > 0
    again.close()
    assert found(tmp_path / "run") == list(UNITS)


def test_without_a_journal_nothing_is_known() -> None:
    none = Unkept()
    none.begin(IDENTITY)
    none.note("stack 0", 1)
    none.note_fact("spent", 1)
    assert (none.recall("stack 0"), none.fact("spent"), none.stacks(0, 3), none.seed) == (None, None, (0, 0), None)


def test_elapsed_seconds_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])
    journal = filled(tmp_path / "run", 0)
    now[0] += 7
    journal.note("stack 0", 1)
    now[0] += 100  # lost with the crash
    journal.close()
    again = Journal(tmp_path / "run")
    now[0] += 2
    assert again.elapsed == 9
    again.note_fact("x", 1)
    assert again.elapsed == 9


# ---------------------------------------------------------------- damage


def test_the_time_is_kept_while_nothing_else_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(module.time, "perf_counter", lambda: now)
    journal = filled(tmp_path / "run", 1)
    size = (tmp_path / "run" / "journal").stat().st_size
    now += module.BEAT / 2
    journal.beat()
    assert (tmp_path / "run" / "journal").stat().st_size == size
    now += 5 * module.BEAT
    journal.beat()
    journal.beat()
    os.close(journal._file)  # as a crash leaves it
    later = Journal(tmp_path / "run")
    assert later.elapsed == pytest.approx(5.5 * module.BEAT)
    assert same(later.recall("stack 0"), UNITS["stack 0"])
    assert (tmp_path / "run" / "journal").read_bytes().count(b"beat") == 1


def test_a_tail_torn_anywhere_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda file: None)  # a thousand times: what is tested is reading
    filled(tmp_path / "run").close()
    path = tmp_path / "run" / "journal"
    whole = path.read_bytes()
    ends = [i + 1 for i, byte in enumerate(whole) if byte == 10]
    files = {file.name: file.read_bytes() for file in tmp_path.glob("run/unit-*")}
    for length in range(len(whole)):
        for name, data in files.items():
            (tmp_path / "run" / name).write_bytes(data)
        path.write_bytes(whole[:length])
        n_records = sum(end <= length for end in ends)
        assert found(tmp_path / "run") == list(UNITS)[: max(0, n_records - 1)]
        # without one unit, the directory of a new search goes
        assert path.exists() == (n_records > 0)
        if n_records:
            assert path.read_bytes() == whole[: ends[n_records - 1]]
        else:
            (tmp_path / "run").mkdir()


def test_what_follows_a_torn_tail_is_kept(tmp_path: Path) -> None:
    filled(tmp_path / "run", 2).close()
    path = tmp_path / "run" / "journal"
    path.write_bytes(path.read_bytes()[:-3])
    filled(tmp_path / "run").close()
    assert found(tmp_path / "run") == list(UNITS)


def test_nothing_after_a_bad_checksum_is_believed(tmp_path: Path) -> None:
    filled(tmp_path / "run").close()
    path = tmp_path / "run" / "journal"
    lines = path.read_bytes().splitlines(keepends=True)
    for place in range(0, len(lines[2]) - 1, 5):
        wrong = bytearray(lines[2])
        wrong[place] ^= 1
        path.write_bytes(b"".join([*lines[:2], bytes(wrong), lines[3]]))
        assert found(tmp_path / "run") == ["stack 0"]


def test_a_unit_with_a_damaged_file_is_not_recalled(tmp_path: Path) -> None:
    filled(tmp_path / "run").close()
    path = tmp_path / "run" / "unit-0.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    journal = Journal(tmp_path / "run")
    assert journal.recall("stack 0") is None
    journal.note("stack 0", UNITS["stack 0"])  # trained again
    journal.close()
    (tmp_path / "run" / "unit-1.safetensors").unlink()
    journal = Journal(tmp_path / "run")
    assert same(journal.recall("stack 0"), UNITS["stack 0"])
    assert journal.recall("stack 1") is None


def test_orphans_go_and_nothing_else(tmp_path: Path) -> None:
    filled(tmp_path / "run").close()
    for name in ("unit-7.safetensors", "unit-8.safetensors.tmp", "notes.txt", "unit-x.safetensors"):
        (tmp_path / "run" / name).write_text("mine")
    Journal(tmp_path / "run").close()
    rest = {"journal", "unit-0.safetensors", "unit-1.safetensors", "notes.txt", "unit-x.safetensors"}
    assert {path.name for path in (tmp_path / "run").iterdir()} == rest
    remove(tmp_path / "run")
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"notes.txt", "unit-x.safetensors"}


# ---------------------------------------------------------------- whose directory it is


def test_one_process_at_a_time(tmp_path: Path) -> None:
    journal = filled(tmp_path / "run")
    with pytest.raises(OptionError, match=r"in use by another process: wait for its end, or give another one"):
        Journal(tmp_path / "run")
    journal.close()
    assert found(tmp_path / "run") == list(UNITS)


def test_another_search_is_refused_and_keeps_its_work(tmp_path: Path) -> None:
    filled(tmp_path / "run").close()
    for other, part in (
        ({**IDENTITY, "option": {"effort": "balanced"}}, r"\(option effort was 'quick', and is 'balanced'\)"),
        ({**IDENTITY, "seed": 1}, r"\(seed was 0, and is 1\)"),
    ):
        journal = Journal(tmp_path / "run")
        with pytest.raises(OptionError, match=rf"{part}: repeat that one, give another directory"):
            journal.begin(other)
        journal.close()
    assert found(tmp_path / "run") == list(UNITS)


def test_a_directory_of_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OptionError, match="holds other files: give a name of its own"):
        Journal(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("name", ["none/run", "file", "bad\udcff/run"])
def test_a_place_where_nothing_can_be_written_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OptionError, match=r"nothing can be written there: .*; give another one \(--run-dir\)"):
        Journal(tmp_path / name)


def test_a_journal_of_nothing_goes(tmp_path: Path) -> None:
    filled(tmp_path / "run", 0).close()
    assert not (tmp_path / "run").exists()


# ---------------------------------------------------------------- a full disk


@pytest.mark.parametrize("at", ["write", "fsync", "replace"])
def test_a_full_disk_ends_the_journal_and_nothing_else(
    at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = filled(tmp_path / "run", 2)

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(module.os, at, full)
        journal.note("stack 1", UNITS["stack 1"])
    journal.note("stack 0", 1)  # no more after that
    with pytest.warns(JournalWarning, match="ends here: No space left on device; the search goes on") as told:
        journal.tell()
    journal.tell()
    assert len(told) == 1
    journal.close()
    assert found(tmp_path / "run") == list(UNITS)[:2]
    filled(tmp_path / "run").close()
    assert found(tmp_path / "run") == list(UNITS)


def test_a_disk_that_takes_half_a_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = filled(tmp_path / "run", 2)
    size = (tmp_path / "run" / "journal").stat().st_size
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(module.os, "write", lambda file, data: write(file, data[:20]))
        journal.note("stack 1", UNITS["stack 1"])
    assert (tmp_path / "run" / "journal").stat().st_size == size
    journal.close()
    assert found(tmp_path / "run") == list(UNITS)[:2]


@pytest.mark.parametrize("room", [0, 1, 20, 90, 150, 230])
def test_a_limit_of_the_system_on_a_file(room: int, tmp_path: Path) -> None:
    import resource

    journal = filled(tmp_path / "run", 2)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = (tmp_path / "run" / "journal").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + room, before[1]))
    try:
        journal.note("stack 1", UNITS["stack 1"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (tmp_path / "run" / "journal").stat().st_size == size
    with pytest.warns(JournalWarning, match="ends here: (File too large|No space left on device)"):
        journal.tell()
    journal.close()
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"journal", "unit-0.safetensors"}
    filled(tmp_path / "run").close()
    assert found(tmp_path / "run") == list(UNITS)


def test_a_disk_that_is_full_at_the_start_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path / "run")
    monkeypatch.setattr(module.os, "write", lambda file, data: 0)
    with pytest.raises(OptionError, match="No space left on device"):
        journal.begin(IDENTITY)


# ---------------------------------------------------------------- crashes


class Crash(BaseException):
    """The process is gone: nothing after this runs."""


CALLS = ("write", "fsync", "replace", "ftruncate", "unlink", "mkdir")


@pytest.fixture
def crash(monkeypatch: pytest.MonkeyPatch) -> Callable[..., bool]:
    """``crash(n, work)``: work until before or after the n-th call to the system; whether it got there."""
    real = {name: getattr(os, name) for name in CALLS}

    def run(n: int, work: Callable[[], object]) -> bool:
        calls = 0

        def wrapped(name: str) -> Callable[..., Any]:
            def call(*args: Any, **options: Any) -> Any:
                nonlocal calls
                calls += 3
                if calls - 2 == n:
                    raise Crash
                if calls - 1 == n and name == "write":
                    real[name](args[0], args[1][: len(args[1]) // 2])
                    raise Crash
                result = real[name](*args, **options)
                if calls == n:
                    raise Crash
                return result

            return call

        with monkeypatch.context() as patch:
            for name in CALLS:
                patch.setattr(os, name, wrapped(name))
            try:
                work()
            except Crash:
                return True
        return n <= calls

    return run


def gone(journal: Journal | None) -> None:
    """What the kernel does with a process's files."""
    if journal is not None and journal._file >= 0:
        os.close(journal._file)
        journal._file = -1


def test_a_crash_at_any_point_loses_at_most_the_unit_at_work(tmp_path: Path, crash: Callable[..., bool]) -> None:
    points = 0
    for n in range(1, 1000):
        directory, noted = tmp_path / f"run{n}", list[str]()
        held: list[Journal] = []

        def work() -> None:
            held.append(Journal(directory))  # noqa: B023
            held[0].begin(IDENTITY)  # noqa: B023
            for key, value in UNITS.items():
                held[0].note(key, value)  # noqa: B023
                noted.append(key)  # noqa: B023

        if not crash(n, work):
            break
        points += 1
        gone(held[0] if held else None)
        known = found(directory) if directory.exists() else []
        assert known[: len(noted)] == noted
        assert len(known) <= len(noted) + 1
        filled(directory).close()  # the same search again
        assert found(directory) == list(UNITS)
        assert len(list(directory.iterdir())) == 3
    assert points > 40


def test_a_crash_while_a_crash_is_mended(tmp_path: Path, crash: Callable[..., bool]) -> None:
    filled(tmp_path / "whole", 2).close()
    files = {path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()}
    for n in range(1, 100):
        directory = tmp_path / f"run{n}"
        directory.mkdir()
        for name, data in files.items():
            (directory / name).write_bytes(data)
        (directory / "unit-5.safetensors.tmp").write_bytes(b"half")
        with open(directory / "journal", "ab") as file:
            file.write(b"0123abcd {torn")
        if not crash(n, lambda: gone(Journal(directory))):  # noqa: B023
            break
        assert found(directory) == list(UNITS)[:2]
    assert n > 8


def test_a_file_has_its_bytes_before_its_name_and_its_name_before_its_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, calls = filled(tmp_path / "run", 0), list[str]()
    for name in ("write", "fsync", "replace"):
        real = getattr(os, name)

        def noted(*args: Any, name: str = name, real: Callable[..., Any] = real) -> Any:
            what = "" if name == "replace" else f" {Path(os.readlink(f'/proc/self/fd/{args[0]}')).name}"
            calls.append(name + what)
            return real(*args)

        monkeypatch.setattr(os, name, noted)
    journal.note("stack 0", UNITS["stack 0"])
    assert calls == ["fsync unit-0.safetensors.tmp", "replace", "fsync run", "write journal", "fsync journal"]


# ---------------------------------------------------------------- proposals


def test_an_answer_is_not_asked_for_twice(tmp_path: Path) -> None:
    asked = iter([[Candidate({"learning_rate": np.float64(0.1), "network__depth": 2})], [], [Candidate({})]])
    journal = filled(tmp_path / "run", 1)
    first = journal.proposal(0, lambda: next(asked))
    assert journal.proposal(1, lambda: next(asked)) == []
    journal.close()
    again = Journal(tmp_path / "run")
    replayed = again.proposal(0, lambda: next(asked))
    assert [dict(c.parameters) for c in replayed] == [{"learning_rate": 0.1, "network__depth": 2}]
    assert first[0].fingerprint == replayed[0].fingerprint
    assert again.proposal(1, lambda: next(asked)) == []
    assert len(again.proposal(2, lambda: next(asked))) == 1


def test_an_answer_with_objects_is_asked_for_again(tmp_path: Path) -> None:
    journal = filled(tmp_path / "run", 1)
    given = [Candidate({"activation": torch.tanh}), Candidate({"network__widths": (8, 4)})]
    assert journal.proposal(0, lambda: given) == given
    journal.close()
    again = Journal(tmp_path / "run")
    assert again.proposal(0, lambda: given)[0]["activation"] is torch.tanh
    assert again.proposal(0, lambda: given[:1]) == given[:1]


# ---------------------------------------------------------------- identity


def half(x: torch.Tensor) -> torch.Tensor:
    return x / 2


def test_identities_of_objects() -> None:
    from functools import partial

    from scipy import stats

    def other(x: torch.Tensor) -> torch.Tensor:
        return x / 3

    distinct = [
        half, other, partial(half), partial(other, 1), torch.nn.Tanh, torch.nn.Linear(2, 1), torch.nn.Linear(2, 1),
        torch.nn.LeakyReLU(0.1), torch.nn.LeakyReLU(0.2), stats.uniform(0, 1), stats.uniform(0, 2), stats.norm(0, 1),
        np.zeros(2), np.ones(2), range(2), range(3), {1}, {1, 2},
        1, 1.0, "1", None, (1, 2), {"a": 1}, Candidate({"max_epochs": 2}), Candidate({}),
    ]  # fmt: skip
    found = [identity(value) for value in distinct]
    assert len({repr(one) for one in found}) == len(found)
    assert found == [identity(value) for value in distinct]
    assert all(differences(one, one) == "" for one in found)


def test_differences_name_one_thing() -> None:
    assert differences({"version": {"torch": "2.9"}}, {"version": {"torch": "2.10"}}) == (
        "version torch was '2.9', and is '2.10'"
    )
    assert differences({"a": {}}, {"a": {"b": 1}}) == "a b was None, and is 1"
    assert differences({"the processor": "x AVX2"}, {"the processor": "x AVX512"}) == (
        "the processor was 'x AVX2', and is 'x AVX512'"
    )
    assert len(differences({"option": {"space": list(range(100))}}, {"option": {"space": []}})) < 120


def test_the_code_of_a_plugin_is_part_of_the_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A constant of a module may change, and neither the version nor the registered function does."""
    path = tmp_path / "bent.py"
    path.write_text("SLOPE = 0.1\n")
    monkeypatch.setitem(load_plugins().files, Owner("bent.py"), path)
    before = _sources()
    assert _sources() == before
    path.write_text("SLOPE = 0.9\n")
    changed = {name for name, checksum in _sources().items() if before[name] != checksum}
    assert len(changed) == 1
