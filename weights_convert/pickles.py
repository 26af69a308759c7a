"""Torch checkpoints read without running them: tensors and plain containers are built, nothing else.

A pickle is a program. This reader knows a handful of its callables by name, replaces every other by an inert
`Foreign` of that name, and calls nothing that the file brings. Tensors are views of the mapped file: opening
a checkpoint of 3 GB costs no memory.

torch's own `weights_only` reader is used for files older than torch 1.6 only. It stops at the optimizer and
callback objects that Lightning files hold, and with `mmap=True` it believes the size that the pickle states
for a storage (torch 2.13: the tensor's tail is then foreign bytes of the file). Here each size is checked.
"""

from __future__ import annotations

import io
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

__all__ = ["Foreign", "Loaded", "UnsafePickleError", "load"]

LARGEST_PICKLE = 1 << 28  # bytes; the published checkpoint's object graph takes under a megabyte
LOCAL_HEADER = 30  # bytes of a zip entry's own header before its name; the two lengths stand at 26

_DTYPES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


class UnsafePickleError(ValueError):
    """A pickle that is broken, or asks for something that this reader does not do."""


class Foreign:
    """Stands where a file has an object that is neither tensor nor plain container. It does nothing.

    `name` is what the file calls it, such as "argparse.Namespace".
    """

    name = "?"

    def __new__(cls, *args: Any, **kwargs: Any) -> Foreign:  # the file decides what it is called with
        """An inert object, whatever the file would have passed."""
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __call__(self, *args: Any, **kwargs: Any) -> Foreign:
        """Itself, so that a chain of calls in the file ends here."""
        return self

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, item: Any) -> None:
        """Part of unpickling a list's kin: ignored."""

    def extend(self, items: Any) -> None:
        """Part of unpickling a list's kin: ignored."""

    def add(self, item: Any) -> None:
        """Part of unpickling a set's kin: ignored."""

    def __repr__(self) -> str:
        return f"<{self.name}, not loaded>"


class _Dict(dict[Any, Any]):
    """An OrderedDict without attributes: those of a state dict (`_metadata`) are of no use here."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        pass


class _Storage:
    """The bytes of one storage, as a (n,) tensor of its dtype."""

    def __init__(self, values: Tensor) -> None:
        self.values = values


class Loaded(NamedTuple):
    """What a checkpoint holds, and the names of the objects that were asked for and not built, each once."""

    value: Any
    foreign: list[str]


def load(path: Path) -> Loaded:
    """The object graph of a torch checkpoint, tensors as views of the mapped file.

    Raises UnsafePickleError if the file is broken, or what it holds cannot be built without running it;
    OSError if it cannot be read.
    """
    with path.open("rb") as file:
        is_zip = zipfile.is_zipfile(file)
    if is_zip:
        return _load_zip(path)
    if tarfile.is_tarfile(path):
        raise UnsafePickleError("this is a tar archive, as torch wrote before 2017; save it anew with torch")
    try:
        return Loaded(torch.load(path, map_location="cpu", weights_only=True), [])
    except Exception as error:  # whatever a hostile file provokes becomes one error with a reason
        raise UnsafePickleError(
            f"not a zip checkpoint (torch 1.6 or later), and torch's weights_only reader refuses it: "
            f"{_first_line(error)}"
        ) from error


def _load_zip(path: Path) -> Loaded:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = {info.filename: info for info in archive.infolist()}
            pickles = [name for name in entries if name.split("/")[-1] == "data.pkl"]
            if len(pickles) != 1:
                raise UnsafePickleError(
                    f"a zip with {len(pickles)} data.pkl, expected 1: no torch checkpoint"
                )
            root = pickles[0][: -len("data.pkl")]
            if f"{root}constants.pkl" in entries:
                raise UnsafePickleError("a TorchScript program, not a checkpoint")
            if f"{root}byteorder" in entries and archive.read(f"{root}byteorder") != b"little":
                raise UnsafePickleError(
                    "written on a big-endian machine; save it anew on a little-endian one"
                )
            if entries[pickles[0]].file_size > LARGEST_PICKLE:
                raise UnsafePickleError(f"its data.pkl has {entries[pickles[0]].file_size} bytes")
            _check_stored(entries[pickles[0]])
            program = archive.read(pickles[0])
        bytes_ = torch.from_file(str(path), shared=False, size=path.stat().st_size, dtype=torch.uint8)
        unpickler = _Unpickler(program, _Records(path, bytes_, entries, root))
        return Loaded(unpickler.load(), sorted(unpickler.foreign))
    except UnsafePickleError:
        raise
    except OSError:
        raise
    except MemoryError as error:
        raise UnsafePickleError("it asks for more memory than there is") from error
    except Exception as error:  # whatever a hostile file provokes becomes one error with a reason
        raise UnsafePickleError(f"{type(error).__name__}: {_first_line(error)}") from error


def _check_stored(entry: zipfile.ZipInfo) -> None:
    if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
        raise UnsafePickleError(f"{entry.filename} is compressed, which torch never does")


class _Records:
    """The storages of an archive, as views of the mapped file."""

    def __init__(self, path: Path, mapped: Tensor, entries: dict[str, zipfile.ZipInfo], root: str) -> None:
        self.path = path
        self.mapped = mapped
        self.entries = entries
        self.root = root

    def __call__(self, key: str, dtype: torch.dtype, count: int) -> _Storage:
        """`count` values of a storage. Raises UnsafePickleError if the archive holds another number."""
        name = f"{self.root}data/{key}"
        if name not in self.entries:
            raise UnsafePickleError(f"storage {key} is missing from the archive")
        entry = self.entries[name]
        _check_stored(entry)
        if entry.file_size != count * dtype.itemsize:
            raise UnsafePickleError(
                f"storage {key} has {entry.file_size} bytes, its pickle says {count} values of {dtype}"
            )
        start = self._start(entry)
        if start + entry.file_size > len(self.mapped):
            raise UnsafePickleError(f"storage {key} ends beyond the file, which is cut short")
        values = self.mapped[start : start + entry.file_size]
        if start % dtype.itemsize:  # torch aligns; a re-zipped file may not
            values = values.clone()
        return _Storage(values.view(dtype))

    def _start(self, entry: zipfile.ZipInfo) -> int:
        with self.path.open("rb") as file:
            file.seek(entry.header_offset + LOCAL_HEADER - 4)
            name_length, extra_length = struct.unpack("<HH", file.read(4))
        return int(entry.header_offset + LOCAL_HEADER + name_length + extra_length)


class _Unpickler(pickle._Unpickler):  # the C one allocates its memo as large as the file says
    """The pickle machine with an allow-list."""

    dispatch: ClassVar[dict[int, Any]] = {  # without the one opcode that allocates what the file says
        code: run for code, run in pickle._Unpickler.dispatch.items() if code != pickle.BYTEARRAY8[0]
    }

    def __init__(self, program: bytes, records: Callable[[str, torch.dtype, int], _Storage]) -> None:
        super().__init__(io.BytesIO(program), encoding="utf-8")
        self.foreign: set[str] = set()
        self._records = records
        self._storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        """What stands for a name of the file: one of ours, or a `Foreign`."""
        known = _KNOWN.get(f"{module}.{name}")
        if known is not None:
            return known
        if module in ("torch", "torch.storage") and name in _DTYPES:
            return _DTYPES[name]
        self.foreign.add(f"{module}.{name}")
        return type("Foreign", (Foreign,), {"name": f"{module}.{name}"})

    def persistent_load(self, pid: Any) -> _Storage:
        """A storage of the archive."""
        kind, dtype, key, _, count = pid
        if kind != "storage" or not isinstance(dtype, torch.dtype) or not isinstance(key, str):
            raise UnsafePickleError(f"a storage of an unknown kind: {pid!r}")
        if key not in self._storages:
            self._storages[key] = self._records(key, dtype, _whole(count))
        return self._storages[key]


def _whole(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise UnsafePickleError(f"got {value!r} where a tensor has a size, stride or offset")
    return value


def _tensor(storage: _Storage, offset: int, size: Sequence[int], stride: Sequence[int], *_: Any) -> Tensor:
    """A view of a storage, within its bounds and without overlap, so that no tensor outgrows its file."""
    if not isinstance(storage, _Storage):
        raise UnsafePickleError(f"a tensor made of {type(storage).__name__}")
    shape, steps = tuple(map(_whole, size)), tuple(map(_whole, stride))
    available = len(storage.values)
    count, last = 1, _whole(offset)
    for n, step in zip(shape, steps, strict=True):
        count *= n
        last += (n - 1) * step
    if count and (last >= available or count > available):
        raise UnsafePickleError(f"a tensor of shape {shape} over a storage of {available} values")
    return storage.values.as_strided(shape, steps, storage.values.storage_offset() + _whole(offset))


def _parameter(data: Any, *_: Any) -> Tensor:
    if not isinstance(data, Tensor):
        raise UnsafePickleError(f"a parameter made of {type(data).__name__}")
    return data


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0][:200]


_KNOWN: dict[str, Any] = {
    "collections.OrderedDict": _Dict,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch.Size": tuple,
    "builtins.set": set,
    "__builtin__.set": set,
}
