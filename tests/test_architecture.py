"""The shape of the house: who imports what, what can be copied out, what an import costs."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "musicldm"
CONVERT = ROOT / "weights_convert"

# Each module, and the modules of ours that it may import: downwards only.
LEAVES = {"unet", "vae", "vocoder", "mel", "schedulers"}
MAY_IMPORT: dict[str, set[str]] = {
    **{leaf: set() for leaf in LEAVES},
    "io": {"mel"},  # the ground floor
    "inputs": set(),
    "ranking": set(),
    "blending": set(),
    "audio": {"io"},
    "clap": {"audio", "mel", "weights_convert"},
    "presets": {"unet", "vae", "vocoder"},
    "lora": {"unet"},
    "lora_file": {"lora", "unet", "weights_convert"},
    "sampling": {"schedulers"},
    "hub": {"weights_convert"},
    "checkpoint": {"clap", "hub", "unet", "vae", "vocoder", "schedulers", "weights_convert"},
    "approximations": {"compilation", "sampling", "schedulers", "unet"},
    "chunks": {"vae", "vocoder"},
    "compilation": set(),
    "parts": {
        "approximations",
        "checkpoint",
        "chunks",
        "clap",
        "compilation",
        "inputs",
        "lora",
        "lora_file",
        "waves",
        *LEAVES,
    },
    "editing": {
        "approximations",
        "audio",
        "blending",
        "chunks",
        "clap",
        "inputs",
        "parts",
        "sampling",
        "stages",
        "waves",
        *LEAVES,
    },
    "stages": {"approximations", "audio", "inputs", "lora", "parts", "ranking", "sampling", *LEAVES},
    "waves": {"audio"},
    "pipeline": {"inputs", "parts", "stages"},
    "batch": {"audio", "hub", "inputs", "io", "mel", "pipeline", "schedulers"},
    "data": {"audio", "io"},
    "corpus": {"audio", "io"},
    "training": {
        "audio",
        "checkpoint",
        "clap",
        "data",
        "hub",
        "inputs",
        "io",
        "lora",
        "lora_file",
        "pipeline",
        "presets",
        "sampling",
        "weights_convert",
        *LEAVES,
    },
    "evaluation": {
        "audio",
        "batch",
        "checkpoint",
        "clap",
        "hub",
        "inputs",
        "io",
        "data",
        "mel",
        "pipeline",
        "weights_convert",
    },
    "cli": {
        "audio",
        "batch",
        "blending",
        "checkpoint",
        "corpus",
        "data",
        "conversion",
        "editing",
        "evaluation",
        "hub",
        "inspection",
        "pipeline",
        "schedulers",
        "stages",
        "training",
    },
    "conversion": {"__version__", "checkpoint", "weights_convert"},
    "inspection": {"checkpoint", "hub", "schedulers", "unet", "vae", "vocoder", "weights_convert"},
    "__init__": {"blending", "clap", "pipeline", "stages", *LEAVES},
    "__main__": {"cli"},
}
COPIED_OUT = {*LEAVES, "clap/text"}
LEAF_NEEDS = {"torch", "einops"}
SOLE_IMPORTER = {  # what lives at the edge, one file each
    "transformers": {"clap", "conversion"},
    "tokenizers": {"clap", "training"},
    "huggingface_hub": {"hub"},
    "soundfile": {"audio"},
    "soxr": {"audio"},
    "mido": {"corpus"},
    "tqdm": {"batch", "cli", "evaluation", "training"},
    "diffusers": set(),
    **{name: set() for name in ("beat_this", "madmom", "librosa")},  # by importlib, when asked for
}
EXAMPLES = {
    "unet": "UNet(UNetConfig(in_channels=4, out_channels=4, block_out_channels=(8, 16), heads=(0, 2), layers_per_block=1,"
    " cond_dim=4, norm_num_groups=4, norm_eps=1e-5, sample_size=8))(torch.zeros(1, 4, 8, 4), 3, torch.zeros(1, 4))",
    "vae": "VAE(VAEConfig(in_channels=1, out_channels=1, block_out_channels=(8, 8), layers_per_block=1, latent_channels=4,"
    " norm_num_groups=4, scaling_factor=1.0)).decode(torch.zeros(1, 4, 4, 4))",
    "vocoder": "HiFiGAN(VocoderConfig(model_in_dim=8, sampling_rate=16000, upsample_initial_channel=8, upsample_rates=(2,),"
    " upsample_kernel_sizes=(4,), resblock_kernel_sizes=(3,), resblock_dilation_sizes=((1,),), leaky_relu_slope=0.1))"
    "(torch.zeros(1, 4, 8))",
    "mel": "log_mel(torch.zeros(1, 16000))",
    "clap/text": "TextTower(TextTowerConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=2,"
    " intermediate_size=8, max_position_embeddings=9, type_vocab_size=1, layer_norm_eps=1e-5, projection_dim=4))"
    "(torch.tensor([[0, 5, 2]]), torch.ones(1, 3, dtype=torch.bool))",
    "schedulers": "DDIM().plan(5).table",
}


def modules_of(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


def owner(path: Path) -> str:
    """The name under which a file is listed above: its own, or that of its subpackage."""
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imports(path: Path) -> list[tuple[str, str]]:
    """(top-level package, module of ours or '') for every import of a file, wherever it stands."""
    found = []
    package = ("musicldm", *path.relative_to(PACKAGE).parts[:-1]) if path.is_relative_to(PACKAGE) else ()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            base += node.module.split(".") if node.module else []
            names = (
                [base] if len(base) > 1 or not node.level else [[*base, alias.name] for alias in node.names]
            )
        else:
            continue
        found += [(name[0], name[1] if len(name) > 1 else "") for name in names]
    return found


@pytest.mark.parametrize("path", modules_of(PACKAGE), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path):
    me = owner(path)
    assert me in MAY_IMPORT, f"{me} has no place in the house yet: say what it may import"
    ours = {module for top, module in imports(path) if top == "musicldm" and module and module != me}
    ours |= {"weights_convert" for top, _ in imports(path) if top == "weights_convert"}
    assert ours <= MAY_IMPORT[me]


@pytest.mark.parametrize("path", modules_of(PACKAGE), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_leaves_need_torch_and_einops_only_and_the_edge_is_one_file_each(path):
    outside = (
        {top for top, _ in imports(path)} - set(sys.stdlib_module_names) - {"musicldm", "weights_convert"}
    )
    if {owner(path), str(path.relative_to(PACKAGE).with_suffix(""))} & COPIED_OUT:
        assert outside <= LEAF_NEEDS
    for package, importers in SOLE_IMPORTER.items():
        assert package not in outside or owner(path) in importers


@pytest.mark.parametrize("path", modules_of(CONVERT), ids=lambda p: p.name)
def test_the_converter_knows_nothing_of_the_package(path):
    """Its door, of three lines, is the one arrow that points up."""
    ours = [name for name in imports(path) if name[0] == "musicldm"]
    assert ours == ([("musicldm", "cli")] if path.name == "__main__.py" else [])


@pytest.mark.parametrize("leaf", sorted(COPIED_OUT))
def test_a_leaf_works_copied_alone_into_an_empty_folder(tmp_path, leaf):
    """Imported by its bare name, with everything of the edge and of ours blocked."""
    source = PACKAGE / leaf
    copies = [source.with_suffix(".py")] if not source.is_dir() else list(source.glob("*.py"))
    for copy in copies:
        target = tmp_path / copy.relative_to(PACKAGE)
        target.parent.mkdir(exist_ok=True)
        target.write_text(copy.read_text(encoding="utf-8"), encoding="utf-8")
    blocked = (
        "transformers",
        "huggingface_hub",
        "soundfile",
        "soxr",
        "diffusers",
        "musicldm",
        "weights_convert",
    )
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({blocked})); import torch; from {leaf.replace('/', '.')} import *; "
        f"assert torch.isfinite({EXAMPLES[leaf]}).all()"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=tmp_path, check=True)


def test_importing_a_leaf_costs_torch_einops_and_one_module():
    """Against `import torch, einops`: what is new is the package and the leaf."""
    code = (
        "import sys, torch, einops, dataclasses, math; before = set(sys.modules); import musicldm.unet; "
        "print(*sorted(set(sys.modules) - before))"
    )
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert shown.stdout.split() == ["musicldm", "musicldm.unet"]


def test_an_import_opens_no_file_and_touches_no_global_state():
    code = """
import sys, builtins, os, torch, transformers, soundfile, soxr, huggingface_hub, safetensors.torch, tqdm
import torch.nn.functional, transformers.models.clap.modeling_clap
from transformers import AutoTokenizer, ClapConfig, ClapFeatureExtractor, ClapModel
from pathlib import Path
before = (dict(os.environ), torch.get_default_dtype(), torch.random.get_rng_state().sum().item(),
          torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.benchmark, torch.get_num_threads())
def refuse(event, args):
    if event == "open" and not str(args[0]).endswith((".py", ".pyc")) and not isinstance(args[0], int):
        if "__pycache__" not in str(args[0]): raise AssertionError(f"import opened {args[0]}")
    if event.startswith("socket."): raise AssertionError(event)
sys.addaudithook(refuse)
import musicldm.pipeline, musicldm.cli, musicldm.presets
after = (dict(os.environ), torch.get_default_dtype(), torch.random.get_rng_state().sum().item(),
         torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.benchmark, torch.get_num_threads())
assert before == after
"""
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert shown.stdout == shown.stderr == ""


@pytest.mark.parametrize(
    "path", [*modules_of(PACKAGE), *modules_of(CONVERT)], ids=lambda p: str(p.relative_to(ROOT))
)
def test_all_is_honest(path):
    if path.name == "__main__.py":
        return
    module = importlib.import_module(
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    )
    if path.read_text(encoding="utf-8").count("\n") < 5 and not hasattr(module, "__all__"):
        return  # a package's bare docstring
    assert len(set(module.__all__)) == len(module.__all__)
    assert all(getattr(module, name) is not None for name in module.__all__)


def test_the_package_lists_what_it_loads_lazily():
    import musicldm

    assert set(musicldm.__all__) <= set(dir(musicldm))
    with pytest.raises(AttributeError, match="has no attribute 'Unet'"):
        musicldm.Unet  # noqa: B018


@pytest.mark.parametrize(
    "path", [*modules_of(PACKAGE), *modules_of(CONVERT)], ids=lambda p: str(p.relative_to(ROOT))
)
def test_files_stay_readable(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400
