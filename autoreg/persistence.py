"""Writing and reading a model file: whole or not at all, and with nothing run.

What the bytes mean is in `autoreg.modelformat`. Nothing is imported, unpickled or evaluated because a file says so, and
nothing is allocated before the file's true size covers it. What is wrong with a file is a `ModelFileError` of one line.
Importing this module does not import torch, and neither does `read_manifest`.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from io import BufferedIOBase, BytesIO
from typing import TYPE_CHECKING, Any

from autoreg.errors import ModelFileError, OptionError
from autoreg.modelformat import (
    CODES,
    DTYPES,
    FORMAT_VERSION,
    MAX_FILE,
    Header,
    TensorEntry,
    check_entry,
    dumps,
    make_head,
    parse_header,
)
from autoreg.strictjson import plain, quoted
from autoreg.writers import sync_directory

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

Path = str | os.PathLike[str]


def write_model(
    path: Path,
    manifest: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    *,
    force: bool = False,
    max_bytes: int = MAX_FILE,
) -> None:
    """Write a model file, whole or not at all.

    The bytes go to a new file in the same directory, are synced, read again and checked; then that file takes the
    path. When anything fails, or the user interrupts, a file that stood at the path is as it was. Equal input gives
    equal bytes, whatever the order of `tensors`.

    Parameters
    ----------
    path : path
    manifest : mapping
        Anything that JSON holds. Tuples become lists and numpy numbers plain ones; NaN and infinite numbers, which JSON
        does not have, become null.
    tensors : mapping of str to Tensor
        float64, float32, int64, int32 or bool, on any device; floats must be finite.
    force : bool
        Replace a file that stands at the path. It keeps its permissions.
    max_bytes : int
        Bound on the file's size.

    Raises
    ------
    OptionError
        When the path exists and `force` is false, or nothing can be written there.
    ModelFileError
        When the manifest or a tensor is nothing that a model file may hold.

    Examples
    --------
    >>> import tempfile, torch
    >>> path = tempfile.mkdtemp() + "/m.safetensors"
    >>> write_model(path, {"target": "price"}, {"weight": torch.ones(2)})
    >>> read_manifest(path)
    {'target': 'price'}
    >>> read_model(path)
    ({'target': 'price'}, {'weight': tensor([1., 1.])})
    """
    target = _target(path, force)
    arrays = {name: _as_array(name, tensor) for name, tensor in tensors.items()}
    entries = [TensorEntry(name, CODES[array.dtype.name], array.shape) for name, array in arrays.items()]
    # Long elements first, so that each tensor starts at a multiple of its own element's size.
    entries.sort(key=lambda entry: (-DTYPES[entry.dtype][1], entry.name))
    digest = hashlib.sha256()
    for entry in entries:
        digest.update(_bytes_of(arrays[entry.name]))
    envelope = dumps(
        {
            "format": "autoreg-model",
            "format_version": FORMAT_VERSION,
            "sha256": digest.hexdigest(),
            "tensors": [[entry.name, entry.dtype, list(entry.shape)] for entry in entries],
            "model": plain(manifest, "manifest"),
        }
    )
    try:
        head = make_head(envelope, entries)
        total = len(head) + sum(entry.n_bytes for entry in entries)
        if total > max_bytes:
            raise ModelFileError(f"has {total} bytes, and the limit is {max_bytes} (max_bytes)")
        parse_header(BytesIO(head), total)
    except ModelFileError as error:
        raise ModelFileError(f"the model cannot be saved: its file {error}") from None

    try:
        descriptor, temporary = tempfile.mkstemp(prefix=".autoreg-", suffix=".tmp", dir=os.path.dirname(target))
        try:
            with os.fdopen(descriptor, "w+b") as file:
                file.write(head)
                for entry in entries:
                    file.write(_bytes_of(arrays[entry.name]))
                file.flush()
                os.fsync(file.fileno())
                file.seek(0)
                # Both read from where the file stands: first the head, then all that follows.
                if file.read(len(head)) != head or hashlib.file_digest(file, "sha256").digest() != digest.digest():
                    raise OSError("what was read back is not what was written")
            os.chmod(temporary, _mode(target))
            _target(path, force)  # again: a long time may have passed
            os.replace(temporary, target)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise
        sync_directory(os.path.dirname(target))
    except OSError as error:
        raise OptionError(f"cannot write {_shown(path)}: {error.strerror or error}; choose another place") from error


def read_header(path: Path, *, max_bytes: int = MAX_FILE) -> Header:
    """Read and check all that stands before the tensors' bytes; those are not read.

    Raises
    ------
    ModelFileError
        When the file is not a model of ours, is damaged, too new or unsafe.

    Examples
    --------
    >>> import tempfile, torch
    >>> path = tempfile.mkdtemp() + "/m.safetensors"
    >>> write_model(path, {}, {"weight": torch.ones(2, 3)})
    >>> read_header(path).tensors
    (TensorEntry(name='weight', dtype='F32', shape=(2, 3)),)
    """
    with _opened(path, max_bytes) as (file, size):
        return parse_header(file, size)


def read_manifest(path: Path, *, max_bytes: int = MAX_FILE) -> dict[str, Any]:
    """Read the manifest that was given to `write_model`, without torch and without reading the tensors.

    The envelope is checked against its checksum and the file's length; damage among the tensors' bytes is found by
    `read_model` alone.

    Raises
    ------
    ModelFileError
        When the file is not a model of ours, is damaged, too new or unsafe.
    """
    return read_header(path, max_bytes=max_bytes).model


def read_model(path: Path, *, max_bytes: int = MAX_FILE) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read a model file: the manifest and the tensors, checked.

    Parameters
    ----------
    path : path
    max_bytes : int
        A longer file is refused.

    Returns
    -------
    manifest : dict
    tensors : dict of str to Tensor
        On the CPU, in memory of their own.

    Raises
    ------
    ModelFileError
        When the file is not a model of ours, is damaged, too new or unsafe.
    """
    import numpy as np
    import torch

    with _opened(path, max_bytes) as (file, size):
        header = parse_header(file, size)
        digest = hashlib.sha256()
        tensors = {}
        for entry in header.tensors:
            dtype = np.dtype(DTYPES[entry.dtype][0])
            array = np.empty(entry.shape, dtype.newbyteorder("<"))
            view = _bytes_of(array)
            if file.readinto(view) != len(view):
                raise ModelFileError("became shorter while it was read")
            digest.update(view)
            tensors[entry.name] = torch.from_numpy(array.astype(dtype, copy=False))
        if digest.hexdigest() != header.sha256:
            raise ModelFileError("is damaged: its tensors do not match their checksum; copy or download it again")
        for name, tensor in tensors.items():
            _check_values(name, tensor)
    return header.model, tensors


def _check_values(name: str, tensor: Tensor) -> None:
    """Refuse NaN and infinity, and bytes that are neither true nor false."""
    import torch

    if not tensor.numel():
        return
    # The extremes are NaN when any value is, and need no second tensor as `isfinite` does.
    if tensor.is_floating_point():
        if not torch.isfinite(torch.stack(torch.aminmax(tensor.detach()))).all():
            raise ModelFileError(f"has tensor {quoted(name)} with NaN or infinite values")
    elif tensor.dtype is torch.bool and tensor.contiguous().view(torch.uint8).max() > 1:
        raise ModelFileError(f"has tensor {quoted(name)} with truth values that are neither 0 nor 1")


def _as_array(name: object, tensor: Tensor) -> np.ndarray[Any, Any]:
    """A tensor as a contiguous little-endian array, checked."""
    import torch

    if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
        raise ModelFileError(f"a model file holds tensors by name, not {quoted(name)}: {type(tensor).__name__}")
    dtype = str(tensor.dtype).removeprefix("torch.")
    if tensor.layout is not torch.strided or tensor.is_meta or tensor.is_quantized or dtype not in CODES:
        raise ModelFileError(f"tensor {quoted(name)} is {dtype} ({tensor.layout}); allowed: {', '.join(CODES)}")
    try:
        check_entry(name, CODES[dtype], tuple(tensor.shape))
        _check_values(name, tensor)
    except ModelFileError as error:
        raise ModelFileError(f"the model cannot be saved: it {error}") from None
    array = tensor.detach().cpu().contiguous().numpy()
    return array.astype(array.dtype.newbyteorder("<"), copy=False)


def _bytes_of(array: np.ndarray[Any, Any]) -> memoryview:
    """The array's own memory as bytes."""
    return memoryview(array.reshape(-1).view("u1"))  # type: ignore[arg-type]


def _target(path: Path, force: bool) -> str:
    """The file to write, behind any link, after a look at what stands there."""
    shown = _shown(path)
    if "\0" in os.fsdecode(path) or not os.path.basename(shown):
        raise OptionError(f"{shown} is not the name of a file: give a name such as model.safetensors")
    target = os.path.realpath(path)
    if os.path.exists(target) and not os.path.isfile(target):
        raise OptionError(f"{shown} is not a regular file: choose another name")
    if os.path.lexists(path) and not force:
        raise OptionError(f"{shown} exists: choose another name, or replace it with force=True (--force)")
    if not os.path.isdir(os.path.dirname(target)):
        raise OptionError(f"{shown}: there is no directory {_shown(os.path.dirname(target))}; make it first")
    return target


def _mode(target: str) -> int:
    """Permissions for the new file: those of the file it replaces, or what the umask leaves."""
    try:
        return stat.S_IMODE(os.stat(target).st_mode)
    except FileNotFoundError:
        mask = os.umask(0o077)  # the only way to read it is to set it
        os.umask(mask)
        return 0o666 & ~mask


@contextmanager
def _opened(path: Path, max_bytes: int) -> Iterator[tuple[BufferedIOBase, int]]:
    """Open a regular file once and give it with its size; name it in every error."""
    shown = _shown(path)

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))  # a pipe must not keep us waiting

    try:
        if "\0" in os.fsdecode(path):
            raise ModelFileError("is not the name of a file")
        # Before, as opening a device can do something; after, as the name may stand for another by then.
        _check_regular(os.stat(path))
        with open(path, "rb", opener=opener) as file:
            found = os.fstat(file.fileno())
            _check_regular(found)
            if found.st_size > max_bytes:
                raise ModelFileError(f"has {found.st_size} bytes, and the limit is {max_bytes} (max_bytes)")
            yield file, found.st_size
    except ModelFileError as error:
        raise ModelFileError(f"{shown} {error}") from None
    except MemoryError:
        raise ModelFileError(f"{shown} needs more memory than there is") from None
    except OSError as error:
        raise ModelFileError(f"cannot read {shown}: {error.strerror or error}") from error


def _check_regular(found: os.stat_result) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise ModelFileError("is a directory, not an autoreg model")
    if not stat.S_ISREG(found.st_mode):
        raise ModelFileError("is a pipe or a device, not an autoreg model")


def _shown(path: Path) -> str:
    """The path as it can stand in a message of one line."""
    text = os.fsdecode(path)
    return text if text.isprintable() else ascii(text)
