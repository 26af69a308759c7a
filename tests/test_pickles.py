"""The restricted reader: tensors and plain containers come out, no code runs, whatever the file says.

Every planted exploit would create a file; none may. Sizes that lie must be refused before they are believed.
"""

from __future__ import annotations

import argparse
import builtins
import collections
import functools
import io
import os
import pathlib
import pickle
import resource
import subprocess
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from helpers import little_work
from hypothesis import given, settings
from hypothesis import strategies as st

from weights_convert.pickles import Foreign, UnsafePickleError, load
from weights_convert.reading import CheckpointError, read_checkpoint, read_tensors

SECONDS = 5  # a refusal takes milliseconds
TENSOR = torch.arange(10.0).reshape(2, 5)


class Runs:
    """Unpickles to the result of a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


class Storage:
    """A reference to a storage, which may lie about its length or type."""

    def __init__(self, count=10, kind=torch.FloatStorage, key="0", word="storage"):
        self.said = (word, kind, key, "cpu", count)


class Pickler(pickle._Pickler):
    def persistent_id(self, value):
        return value.said if isinstance(value, Storage) else None


def rebuilt(storage, offset=0, size=(2, 5), stride=(5, 1)):
    return Runs(
        torch._utils._rebuild_tensor_v2, storage, offset, size, stride, False, collections.OrderedDict()
    )


def program(value):
    file = io.BytesIO()
    Pickler(file, 2).dump(value)
    return file.getvalue()


def archive(path, content, compression=zipfile.ZIP_STORED, extra=(), byteorder=b"little"):
    """A torch checkpoint whose data.pkl is `content`, with one storage of ten floats."""
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("archive/data.pkl", content)
        file.writestr("archive/byteorder", byteorder)
        file.writestr("archive/data/0", TENSOR.numpy().tobytes(), zipfile.ZIP_STORED)
        file.writestr("archive/version", "3\n")
        for name in extra:
            file.writestr(name, b"x")
    return path


@pytest.fixture
def path(tmp_path):
    return tmp_path / "evil.ckpt"


@pytest.fixture
def marker(tmp_path):
    return tmp_path / "marker"


EXPLOITS = {
    "os.system": lambda m: Runs(os.system, f"touch {m}"),
    "eval": lambda m: Runs(eval, f"open({str(m)!r}, 'w')"),
    "exec": lambda m: Runs(exec, f"open({str(m)!r}, 'w')"),
    "open": lambda m: Runs(open, str(m), "w"),
    "subprocess": lambda m: Runs(subprocess.check_call, ["touch", str(m)]),
    "a nested call": lambda m: Runs(getattr, Runs(__import__, "os"), Runs(str, "system")),
    "a call of a result": lambda m: Runs(map, Runs(functools.partial, os.system, f"touch {m}"), [1]),
    "inside a list in a dict": lambda m: {"optimizer": [{"hook": Runs(os.mkdir, str(m))}]},
    "as a key": lambda m: {Runs(os.mkdir, str(m)): 1},
    "as state": lambda m: Runs(collections.OrderedDict, [("a", Runs(os.mkdir, str(m)))]),
    "torch.load itself": lambda m: Runs(torch.load, str(m)),
    "a method of a path": lambda m: Runs(pathlib.Path.touch, pathlib.PurePosixPath(m)),
    "as a tensor's storage": lambda m: rebuilt(Runs(os.mkdir, str(m))),
    "as a tensor's size": lambda m: rebuilt(Storage(), size=Runs(os.mkdir, str(m))),
    "a hook of a tensor": lambda m: Runs(
        torch._utils._rebuild_tensor_v2, Storage(), 0, (2, 5), (5, 1), False, {"h": Runs(os.mkdir, str(m))}
    ),
    "setattr": lambda m: Runs(setattr, Runs(__import__, "os"), "path", 1),
    "builtins by name": lambda m: Runs(builtins.compile, "1", "a", "exec"),
}


def refused_or_inert(read, path):
    """What a reader gives, or None if it refuses."""
    with little_work(SECONDS):
        try:
            return read(path)
        except (UnsafePickleError, CheckpointError):
            return None


@pytest.mark.parametrize("exploit", EXPLOITS)
@pytest.mark.parametrize("container", ["zip", "legacy"])
def test_no_code_of_a_file_is_run(path, marker, exploit, container):
    value = {"state_dict": {"w": TENSOR}, "evil": EXPLOITS[exploit](marker)}
    if container == "zip":
        archive(path, program({"state_dict": {"w": rebuilt(Storage())}, "evil": EXPLOITS[exploit](marker)}))
    else:
        path.write_bytes(pickle.dumps(value["evil"], 2))
    for read in (load, read_checkpoint, read_tensors):
        refused_or_inert(read, path)
    assert not marker.exists()


def test_what_was_not_built_is_named(path, marker):
    archive(path, program({"state_dict": {"w": rebuilt(Storage())}, "evil": EXPLOITS["os.system"](marker)}))
    held = read_checkpoint(path)
    assert torch.equal(held.tensors["w"], TENSOR)
    assert held.foreign == ["posix.system"]
    assert held.other == ["evil"]


PICKLE_CODE = {  # written by hand, for opcodes that Python's pickler does not emit
    "INST": b"(S'touch {m}'\nios\nsystem\n.",
    "OBJ": b"(cos\nsystem\nS'touch {m}'\no.",
    "GLOBAL and REDUCE": b"cos\nsystem\n(S'touch {m}'\ntR.",
    "STACK_GLOBAL": b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x09touch {m}\x85R.",
    "NEWOBJ": b"\x80\x02cos\nsystem\n(S'touch {m}'\nt\x81.",
    "NEWOBJ_EX": b"\x80\x04cos\nsystem\n(S'touch {m}'\nt}\x92.",
    "BUILD on a class": b"cos\nsystem\n}S'__call__'\ncos\nsystem\nsb.",
    "BUILD on a dict": b"ccollections\nOrderedDict\n)R}S'items'\ncos\nsystem\nsb.",
    "an extension code": b"\x80\x02\x82\x01.",
    "a memo of 2^31 entries": b"\x80\x02]r\xff\xff\xff\x7f.",
    "a bytearray of 2^62 bytes": b"\x80\x05\x96" + (1 << 62).to_bytes(8, "little") + b".",
    "bytes of 2^62": b"\x80\x04\x8e" + (1 << 62).to_bytes(8, "little") + b".",
    "a frame of 2^62 bytes": b"\x80\x04\x95" + (1 << 62).to_bytes(8, "little") + b"N.",
    "a number of a million digits": b"I" + b"9" * 1_000_000 + b"\n.",
    "nothing": b"",
    "a stop with an empty stack": b".",
    "an unknown opcode": b"\xfe.",
    "a mark too few": b"t.",
    "a name of bytes": b"\x80\x04\x8c\x02\xff\xfe.",
    "a protocol of the future": b"\x80\xff.",
    "a list in itself": b"]q\x00h\x00a.",
    "a dict in itself": b"}q\x00X\x01\x00\x00\x00ah\x00s.",
}


@pytest.mark.parametrize("code", PICKLE_CODE)
def test_no_opcode_runs_code_or_believes_a_size(path, marker, code):
    archive(path, PICKLE_CODE[code].replace(b"{m}", str(marker).encode()))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for read in (load, read_checkpoint, read_tensors):
        refused_or_inert(read, path)
    assert not marker.exists()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 19  # KiB: half a gigabyte


LIES = {
    "a storage longer than its record": rebuilt(Storage(10**9), size=(10**9,), stride=(1,)),
    "a storage a little longer": rebuilt(Storage(11), size=(11,), stride=(1,)),
    "a storage shorter than its record": rebuilt(Storage(9), size=(9,), stride=(1,)),
    "a storage of wider values": rebuilt(Storage(10, torch.DoubleStorage)),
    "a storage of no length": rebuilt(Storage("ten")),
    "a storage of negative length": rebuilt(Storage(-10)),
    "a storage of another kind": rebuilt(Storage(10, torch.ComplexFloatStorage)),
    "a storage that is missing": rebuilt(Storage(key="7")),
    "a storage outside the archive": rebuilt(Storage(key="../../etc/passwd")),
    "a storage under another word": rebuilt(Storage(word="file")),
    "a tensor larger than its storage": rebuilt(Storage(), size=(10**12,), stride=(1,)),
    "a tensor one value too long": rebuilt(Storage(), size=(11,), stride=(1,)),
    "a tensor that repeats one value 10^12 times": rebuilt(Storage(), size=(10**6, 10**6), stride=(0, 0)),
    "a tensor that begins too late": rebuilt(Storage(), offset=1),
    "a tensor that begins before its storage": rebuilt(Storage(), offset=-1),
    "a tensor that runs backwards": rebuilt(Storage(), offset=9, size=(10,), stride=(-1,)),
    "a tensor of negative size": rebuilt(Storage(), size=(-2, 5)),
    "a tensor of fractions": rebuilt(Storage(), size=(2.0, 5)),
    "a tensor with more axes than strides": rebuilt(Storage(), size=(2, 5, 1)),
    "a tensor with overflowing strides": rebuilt(Storage(), size=(2, 5), stride=(2**63, 1)),
    "a tensor without arguments": Runs(torch._utils._rebuild_tensor_v2),
    "a tensor of a tensor": rebuilt(rebuilt(Storage())),
    "a parameter of a number": Runs(torch._utils._rebuild_parameter, 3, False, None),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_tensor_stays_inside_its_storage(path, lie):
    archive(path, program({"w": LIES[lie]}))
    with pytest.raises(UnsafePickleError):
        load(path)


def test_an_honest_tensor_is_read_bit_for_bit(path):
    archive(
        path, program({"w": rebuilt(Storage()), "part": rebuilt(Storage(), offset=3, size=(2,), stride=(4,))})
    )
    held = load(path).value
    assert torch.equal(held["w"], TENSOR)
    assert held["part"].tolist() == [3, 7]


def test_every_dtype_and_stride_that_torch_saves_comes_back(tmp_path):
    kinds = (
        torch.float64,
        torch.float32,
        torch.float16,
        torch.bfloat16,
        torch.int64,
        torch.int32,
        torch.uint8,
    )
    saved = {str(kind): torch.arange(6).reshape(2, 3).to(kind) for kind in kinds}
    saved |= {
        "bool": torch.tensor([True, False]),
        "turned": TENSOR.t(),
        "scalar": torch.tensor(3.0),
        "none": torch.zeros(0, 4),
    }
    saved["parameter"] = torch.nn.Parameter(TENSOR)
    torch.save(saved, tmp_path / "all.pt")
    held = load(tmp_path / "all.pt").value
    assert held.keys() == saved.keys()
    for name, tensor in saved.items():
        assert torch.equal(held[name], tensor)
        assert held[name].dtype == tensor.dtype


def test_a_state_dict_with_metadata_is_read(tmp_path):
    torch.save({"state_dict": torch.nn.Linear(2, 3).state_dict()}, tmp_path / "linear.ckpt")
    assert read_checkpoint(tmp_path / "linear.ckpt").tensors.keys() == {"weight", "bias"}


def test_a_lightning_checkpoint_is_read_without_its_objects(tmp_path):
    module = torch.nn.Linear(2, 3)
    optimizer = torch.optim.AdamW(module.parameters())
    module(torch.zeros(1, 2)).sum().backward()
    optimizer.step()
    torch.save(
        {
            "epoch": 3,
            "global_step": 700,
            "pytorch-lightning_version": "1.9.0",
            "state_dict": module.state_dict(),
            "loops": {"fit": {"state": collections.defaultdict(int, a=1)}},
            "callbacks": {"ModelCheckpoint": {"best": np.float64(0.5), "dir": pathlib.PosixPath("/x")}},
            "optimizer_states": [optimizer.state_dict()],
            "hyper_parameters": argparse.Namespace(lr=1e-4, net=functools.partial(print, "x")),
        },
        tmp_path / "lightning.ckpt",
    )
    held = read_checkpoint(tmp_path / "lightning.ckpt")
    assert all(torch.equal(held.tensors[name], t) for name, t in module.state_dict().items())
    assert {"argparse.Namespace", "functools.partial", "collections.defaultdict"} <= set(held.foreign)
    assert "optimizer_states" in held.other


def test_placeholders_do_nothing():
    kind = type("Foreign", (Foreign,), {"name": "os.system"})
    thing = kind("rm -rf /")
    assert thing(1, a=2) is thing
    thing.append(1)
    thing.extend([1])
    thing.add(1)
    thing[1] = 2
    assert repr(thing) == "<os.system, not loaded>"


HONEST = program({"w": rebuilt(Storage())})


def test_broken_archives_are_refused_with_a_reason(tmp_path):
    def refused(name, make):
        make(tmp_path / name)
        with pytest.raises(CheckpointError, match=name) as error:
            read_checkpoint(tmp_path / name)
        return str(error.value)

    assert "compressed" in refused("bomb.pt", lambda p: archive(p, bytes(10**6), zipfile.ZIP_DEFLATED))
    assert "TorchScript" in refused(
        "script.pt", lambda p: archive(p, HONEST, extra=["archive/constants.pkl"])
    )
    assert "2 data.pkl" in refused("two.pt", lambda p: archive(p, HONEST, extra=["b/data.pkl"]))
    assert "big-endian" in refused("big.pt", lambda p: archive(p, HONEST, byteorder=b"big"))
    assert "0 data.pkl" in refused("zip.pt", lambda p: zipfile.ZipFile(p, "w").writestr("a", "b"))
    assert "tar" in refused("tar.pt", lambda p: tarfile.open(p, "w").close())
    assert "broken" in refused("empty.pt", lambda p: p.touch())
    assert "broken" in refused("text.pt", lambda p: p.write_text("404: Not Found"))
    assert "tensors by name" in refused("names.pt", lambda p: torch.save({1: TENSOR}, p))
    assert "tensors by name" in refused("values.pt", lambda p: torch.save({"state_dict": {"a": "b"}}, p))
    assert "mapping" in refused("list.pt", lambda p: torch.save([TENSOR], p))
    assert "Foreign" in refused("sparse.pt", lambda p: torch.save({"a": TENSOR.to_sparse()}, p))


def test_a_legacy_file_of_tensors_is_read(tmp_path):
    torch.save({"w": TENSOR}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert torch.equal(read_tensors(tmp_path / "old.pt")["w"], TENSOR)


@pytest.mark.parametrize("share", [0, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 0.999])
def test_a_checkpoint_cut_short_is_refused(path, share):
    archive(path, HONEST)
    os.truncate(path, int(path.stat().st_size * share))
    with pytest.raises(CheckpointError, match=r"evil\.ckpt"):
        read_checkpoint(path)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(data=st.data())
def test_any_program_is_read_or_refused(tmp_path_factory, data):
    place = tmp_path_factory.getbasetemp() / "fuzz.ckpt"
    content = bytearray(HONEST)
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    archive(place, bytes(content))
    refused_or_inert(read_checkpoint, place)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(data=st.data())
def test_any_archive_is_read_or_refused(tmp_path_factory, data):
    place = tmp_path_factory.getbasetemp() / "fuzz2.ckpt"
    content = bytearray(archive(place, HONEST).read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    place.write_bytes(bytes(content))
    held = refused_or_inert(read_checkpoint, place)
    assert held is None or all(tensor.numel() <= TENSOR.numel() for tensor in held.tensors.values())
