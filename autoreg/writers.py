"""Tables to files: whole or not at all, and never over a file that should stay."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoreg.errors import OptionError

if TYPE_CHECKING:
    import pandas as pd

WRITERS: dict[str, Callable[[Any, str], object]] = {
    ".csv": lambda frame, path: frame.to_csv(path, index=False),
    ".csv.gz": lambda frame, path: frame.to_csv(path, index=False, compression="gzip"),
    ".tsv": lambda frame, path: frame.to_csv(path, index=False, sep="\t"),
    ".parquet": lambda frame, path: frame.to_parquet(path, index=False),
    ".feather": lambda frame, path: frame.to_feather(path),
    ".jsonl": lambda frame, path: _write_json_lines(frame, path),
    ".xlsx": lambda frame, path: frame.to_excel(path, index=False, engine="openpyxl"),
}
"""How a table is written, by the end of the file's name."""

NEEDS = {".parquet": "parquet", ".feather": "parquet", ".xlsx": "excel"}
"""Extras of our distribution that a format needs."""


def _write_json_lines(frame: pd.DataFrame, path: str) -> None:
    """One object a line; pandas would round the numbers."""
    with open(path, "w", encoding="utf-8") as file:
        for record in frame.astype(object).where(frame.notna(), None).to_dict("records"):
            file.write(json.dumps(record, default=str, ensure_ascii=False) + "\n")


def check_output(path: str | os.PathLike[str], *, force: bool = False) -> None:
    """Find out, before any work, whether a file can be written.

    Parameters
    ----------
    path : path-like
    force : bool
        Whether an existing file may be replaced.

    Raises
    ------
    OptionError
        When the file exists and must stay, or its folder is missing or not writable.

    Examples
    --------
    >>> check_output("/no/such/folder/model.safetensors")
    Traceback (most recent call last):
    autoreg.errors.OptionError: '/no/such/folder/model.safetensors': there is no folder '/no/such/folder'; make it first
    """
    path = Path(path)
    if path.is_dir():
        raise OptionError(f"'{path}' is a folder: give the name of a file in it")
    if os.path.lexists(path) and not force:
        raise OptionError(f"'{path}' exists: choose another name, or replace it with --force")
    folder = Path(os.path.realpath(path)).parent
    if not folder.is_dir():
        raise OptionError(f"'{path}': there is no folder '{folder}'; make it first")
    try:
        # trying is the only way to know: permissions, read-only mounts and full disks all show here
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OptionError(f"'{path}': nothing can be written into '{folder}': {error.strerror or error}") from error


def suffix_of(path: str | os.PathLike[str]) -> str:
    """The end of a file's name that says how to write it.

    Raises
    ------
    OptionError
        When no table can be written so.

    Examples
    --------
    >>> suffix_of("out/Predictions.CSV.gz")
    '.csv.gz'
    """
    name = Path(path).name.lower()
    for suffix in WRITERS:
        if name.endswith(suffix):
            return suffix
    raise OptionError(f"'{os.fspath(path)}': give a name that ends in one of {', '.join(WRITERS)}")


def write_table(frame: pd.DataFrame, path: str | os.PathLike[str], *, force: bool = False) -> None:
    """Write a table, in the format that the file's name says.

    Parameters
    ----------
    frame : DataFrame
        Its index is not written.
    path : path-like
    force : bool
        Replace an existing file.

    Raises
    ------
    OptionError
        When it cannot be written. What stood at the path is then as it was.
    """
    suffix = suffix_of(path)
    check_output(path, force=force)
    target = os.path.realpath(path)
    folder = os.path.dirname(target)
    with tempfile.TemporaryDirectory(prefix=".autoreg-", dir=folder) as scratch:
        draft = os.path.join(scratch, "table" + suffix)
        try:
            WRITERS[suffix](frame, draft)
            if os.path.exists(target):
                with suppress(OSError):
                    os.chmod(draft, os.stat(target).st_mode & 0o7777)
            os.replace(draft, target)
        except ImportError as error:
            extra = NEEDS.get(suffix, "all")
            raise OptionError(f"'{path}' needs {error.name}: pip install 'autoreg-core[{extra}]'") from error
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or " ".join(str(error).split())
            raise OptionError(f"'{path}' cannot be written: {reason}") from error


def sync_directory(directory: str | os.PathLike[str]) -> None:
    """Make new names in a directory last. Where it cannot be opened or synced, the system has no such promise."""
    with suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
