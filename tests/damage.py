"""Ways to damage a checkpoint: each takes a path inside it and returns a function of its folder."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import contextmanager

import torch
from safetensors.torch import load_file, save_file

UNET = "unet/diffusion_pytorch_model.safetensors"
VAE = "vae/diffusion_pytorch_model.safetensors"
BIN = "unet/diffusion_pytorch_model.bin"
CONV = "conv_in.weight"
NOBODY = 65534


def text(path, content):
    return lambda root: (root / path).write_text(content)


def raw(path, content):
    return lambda root: (root / path).write_bytes(content)


def edit(path, **changes):
    def damage(root):
        config = json.loads((root / path).read_text())
        for key, value in changes.items():
            *parents, last = key.split("__")
            inner = config
            for parent in parents:
                inner = inner[parent]
            inner[last] = value
        (root / path).write_text(json.dumps(config))

    return damage


def without(path, key):
    def damage(root):
        config = json.loads((root / path).read_text())
        del config[key]
        (root / path).write_text(json.dumps(config))

    return damage


def tensors(path, change):
    def damage(root):
        held = load_file(root / path)
        change(held)
        save_file(held, root / path)

    return damage


def put(name, tensor):
    return lambda held: held.__setitem__(name, tensor)


def spoil(name, value):
    return lambda held: held[name].view(-1).__setitem__(0, value)


def cut(path, size):
    return lambda root: os.truncate(root / path, size if size >= 0 else (root / path).stat().st_size + size)


def header_length(path, change):
    def damage(root):
        content = bytearray((root / path).read_bytes())
        length = int.from_bytes(content[:8], "little")
        content[:8] = change(length).to_bytes(8, "little")
        (root / path).write_bytes(content)

    return damage


def header(path, change):
    """Rewrite the JSON header's text."""

    def damage(root):
        content = (root / path).read_bytes()
        length = int.from_bytes(content[:8], "little")
        changed = change(content[8 : 8 + length].decode().rstrip()).encode()
        (root / path).write_bytes(len(changed).to_bytes(8, "little") + changed + content[8 + length :])

    return damage


def removed(path):
    return lambda root: (root / path).unlink()


def swapped(a, b):
    def damage(root):
        (root / a).rename(root / "aside")
        (root / b).rename(root / a)
        (root / "aside").rename(root / b)

    return damage


def looped(path):
    def damage(root):
        target = root / path
        shutil.rmtree(target) if target.is_dir() else target.unlink()
        target.symlink_to(target.name)

    return damage


def a_folder_instead(path):
    return lambda root: ((root / path).unlink(), (root / path).mkdir())


def sharded(change=lambda index: None, names=("a.safetensors", "b.safetensors")):
    """The U-Net's weights in two files and an index, which `change` may spoil."""

    def damage(root):
        held = load_file(root / UNET)
        (root / UNET).unlink()
        keys = sorted(held)
        parts = dict(zip(names, (keys[: len(keys) // 2], keys[len(keys) // 2 :]), strict=True))
        for name, part in parts.items():
            save_file({key: held[key] for key in part}, root / "unet" / name)
        index = {"metadata": {}, "weight_map": {key: name for name, part in parts.items() for key in part}}
        change(index)
        path = root / "unet" / "diffusion_pytorch_model.safetensors.index.json"
        path.write_text(json.dumps(index))

    return damage


def mapped(key, value):
    return lambda index: index["weight_map"].__setitem__(key, value)


class Exploit:
    """Would create a file if unpickled by anything that runs code."""

    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def pickled(path, content):
    def damage(root):
        (root / UNET).unlink()
        torch.save(content(root), root / path)

    return damage


def let_all_in(path):
    """Open a temporary folder to `as_nobody`, and those above it up to one that is open: pytest closes its own."""
    while path.stat().st_mode & 0o005 != 0o005:
        path.chmod(0o755)
        path = path.parent


@contextmanager
def as_nobody():
    """Without root's right to read and write everything."""
    if os.geteuid() == 0:
        os.seteuid(NOBODY)
        try:
            yield
        finally:
            os.seteuid(0)
    else:
        yield
