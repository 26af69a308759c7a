"""What is changed in a snippet before it is run, and what is not run, each with its reason.

A snippet that nothing here matches runs as it stands. An entry that no snippet matches any more fails a test.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass

from .reading import Snippet


@dataclass(frozen=True)
class Change:
    """In snippets where `where` is found: `old` (a pattern) becomes `new`, then `more` is put at the end."""

    where: str
    why: str
    more: str = ""
    old: str = ""
    new: str = ""
    page: str = ""  # the end of its path; empty: all pages
    language: str = "bash"

    def matches(self, snippet: Snippet) -> bool:
        of_page = snippet.page.endswith(self.page) and snippet.language == self.language
        return of_page and bool(re.search(self.where, snippet.text))

    def apply(self, text: str) -> str:
        if self.old:
            text = re.sub(self.old, self.new, text)
        return f"{text} {self.more}".rstrip()


def python(old: str, new: str, why: str, page: str = "") -> Change:
    return Change(old, why, old=old, new=new, page=page, language="python")


def word(old: str, new: str, why: str, page: str = "") -> Change:
    return Change(old, why, old=old, new=new, page=page)


TINY_UNET = (
    "--set 'parts.unet={in_channels = 8, out_channels = 8, block_out_channels = [8, 16], heads = [0, 2], "
    "layers_per_block = 1, cond_dim = 512, norm_num_groups = 4, norm_eps = 1e-5, sample_size = 256}'"
)
ONE_STEP = (
    "--set loop.steps=1 --set loop.batch_size=2 --set loop.workers=0 --set loop.precision=float32 "
    "--set data.seconds=1.28 --set preview.every=0 --set evaluate.every=0"
)

CHANGES = [
    # -- Python
    python(r'\.to\("cuda"\)', '.to("cpu")', "no GPU"),
    python(r"num_inference_steps=\d+", "num_inference_steps=2", "fewer steps"),
    python(r"\.plan\((25|10)\)", ".plan(2)", "fewer steps"),
    python(r"range\(100\)", "range(2)", "fewer steps of the search"),
    python(r"^pipe\((prompt_embeds=.*)\)$", r"pipe(\1, num_inference_steps=2)", "fewer steps"),
    python(r"seconds=120", "seconds=40", "a third, as song.txt", "editing/README.md"),
    python(r"end=1000", "end=2", "fewer steps", "data/README.md"),
    python(r"163840", "16384", "shorter clips", "data/README.md"),
    # -- installing
    word(r"^pip install \. && ", "", ".ci/run installs the package"),
    # -- clips
    Change(r"^musicldm (generate|edit|batch) .*-o ", "fewer steps", more="--steps 2"),
    Change(r"^torchrun .*musicldm batch", "fewer steps", more="--steps 2"),
    Change(r"^musicldm generate (?!.*--(seconds|timeline)).*-o ", "a short clip", more="--seconds 1.28"),
    Change(r"musicldm batch .*-o ", "short clips", more="--seconds 1.28"),
    word(r"(?<!song\.txt )--seconds 120", "--seconds 12", "two windows"),
    word(r"(?<=song\.txt )--seconds 120", "--seconds 40", "a third, as song.txt"),
    word(r"--nproc-per-node 4", "--nproc-per-node 2", "two processes"),
    # -- music and its beats
    word(r"musicldm manifest FOLDER", "musicldm manifest my-music", "a folder that is there"),
    word(r"--test 0\.1", "--test 0.4", "a few clips, of which some have to be in the split"),
    word(r"--backend librosa", "--annotations beats", "librosa is not among the tests' requirements"),
    Change(r"^musicldm beats music\.jsonl(?! -o music\.beats\.jsonl --backend)(?!.*--(backend|annotations))",
           "beat_this downloads its weights", more="--annotations beats"),
    word(r"-o corpus( --clips 4000 --seed 0)?$", "-o corpus --clips 3", "fewer clips", "corpus/README.md"),
    word(r"-o corpus$", "-o corpus --clips 20", "fewer clips, two of them of the split valid", "training/README.md"),
    word(r"-o corpus &&", "-o corpus --clips 3 &&", "fewer clips", "evaluation/README.md"),
    word(r"--clips 600 --seed 1", "--clips 40 --seed 1", "fewer clips, two of them of the split test", "evaluation/README.md"),
    word(r"--clips 600 --seed 1", "--clips 18 --seed 1", "fewer clips, of which awk takes two", "editing/README.md"),
    word(r"--clips 600 --seed 1", "--clips 3 --seed 1", "fewer clips", "demo/README.md"),
    # -- training
    Change(r"^(musicldm|torchrun .* musicldm) train (?!ldm --keys)\w+ \S", "one step of two short clips", more=ONE_STEP),
    Change(r"train ldm ldm-(none|plain|bam|blm)\b", "a small U-Net from scratch", more=TINY_UNET),
    Change(r"train vocoder vocoder ", "a small generator", more="--set parts.vocoder=ucsd-reach/musicldm"),
    Change(r"train vocoder vocoder", "small judges", more="--set vocoder.judge_width=128"),
    word(r"=CLIPS\b", "=my-music", "a folder that is there"),
    word(r"=FOLDER\b", "=ucsd-reach/musicldm", "the tiny checkpoint"),
    Change(r"^torchrun .* train ldm CONFIG", "a config that is there", old="CONFIG",
           new="ldm-finetune --set data.manifest=my-music --set output=runs/processes"),
    Change(r"train ldm ldm-blm .*music\.beats\.jsonl$", "the folder has the run of the block above", page="paper.md",
           more="--set output=runs/ldm-blm-row"),
    Change(r"train (ldm ldm-finetune|vae vae|vocoder vocoder) .*loop\.log_every=1", "a folder of its own, not a run's above",
           page="training/README.md", more="--set output=runs/measured-$RANDOM"),
    # -- programs
    word(r"bench_batch\.py", "bench_batch.py --rows 120", "fewer rows"),
    word(r"(?<=head -)24\) --steps 20", "2) --seconds 2.56 --steps 2", "fewer and shorter clips, fewer steps"),
    word(r"--seconds 30,120 --steps 20", "--seconds 11,12 --steps 1 --seeds 0", "shorter clips, fewer steps"),
    word(r"--sampling-steps 15", "--sampling-steps 2 --seeds 0 --prompts 4 --set loop.steps=2", "fewer of everything"),
    Change(r"prompt_gain\.py", "fewer clips", more="--clips 2"),
    word(r"--reference corpus ", "--reference corpus1 ", "so few clips of the other have one test clip"),
    # -- weights
    Change(r"^python -m weights_convert musicldm-ckpt\.ckpt", "the tiny release has sizes of its own, and no network",
           more="--vocoder-config config_16k_64.json --tokenizer tokenizer"),
    # -- evaluation
    word(r"(?<=clap=)CLAP", "demo", "a CLAP that is there"),
    word(r"musicldm evaluate \.\.\. --features my", "musicldm evaluate clips -o bands --features my", "clips that are there"),
    word(r"--steps 200 --guidance 2 --candidates 5", "--steps 2 --guidance 2 --candidates 2", "fewer steps, fewer candidates"),
]  # fmt: skip

if shutil.which("fluidsynth") is None:
    CHANGES.append(
        word(
            r"musicldm corpus -o (\S+ --clips \d+)( --seed \d)?",
            r"python tests/documents/toy_corpus.py \1",
            "no fluidsynth",
        )
    )

# Whole commands (fullmatch) that no test of documents runs.
DIFFUSERS = "needs Diffusers 0.33.1, which wants an environment of its own; tests/parity has it"
LIBRARIES = "needs librosa and scikit-learn, or matplotlib, which are not among the tests' requirements"
PROGRAM = "hours, or the published size: the test of the program runs it at its smallest setting"
NOT_RUN = {
    r"apt-get install [\w -]+( && pip install .*)?": "installs packages of the system",
    r'pip install ("\.\[(train|bench)\]"|beat-this|madmom|librosa)': "installs packages from the network",
    r"bash benchmarks/gpu_wheels\.sh wheels": "downloads from the network",
    r"bash benchmarks/run_gpu\.sh --wheels .*": "no GPU",
    r'pip install "\.\[(test|parity)\]" && python -m pytest.*': ".ci/run runs this line in a new environment",
    r"python -m pytest( -m slow)?": "the tests themselves",
    r"MUSICLDM_WEIGHTS=FOLDER python -m pytest tests/weights": "the published weights",
    r"MUSICLDM_MUSIC=FOLDER pytest tests/music": "real music",
    r"pytest tests/test_training_ldm\.py tests/test_training_vae\.py -k overfits": "tests, which run with the others",
    r"python benchmarks/vs_diffusers\.py .*": DIFFUSERS,
    r"python benchmarks/(corpus_probe|demo_quality|solver_error|bench_pipeline)\.py.*": LIBRARIES,
    r"python benchmarks/(roofline|corpus_levels|bench_import)\.py": PROGRAM,
    r"bash benchmarks/run_gpu\.sh --dry-run": PROGRAM,
}


def not_run(snippet: Snippet) -> str:
    """The reason why a snippet is not run, or nothing."""
    if snippet.language != "bash":
        return ""
    return next(
        (why for pattern, why in NOT_RUN.items() if re.fullmatch(pattern, snippet.text, re.DOTALL)), ""
    )


def reduced(snippet: Snippet) -> str:
    """What is run in a snippet's place."""
    text = snippet.text
    for change in CHANGES:
        if change.matches(snippet):
            text = change.apply(text)
    return text


QUOTED = r"'[^']*'|\"[^\"]*\""
PLACEHOLDER = re.compile(r"(?<![\w.=/-])(?:[A-Z]{2,}|N)(?![\w./=])|\.\.\.")
BARE = re.compile(r"musicldm(?: \w+)?(?: (?:vae|vocoder|clap|ldm))?(?: --(?!help|keys)[\w-]+)?|torchrun")


def is_mention(snippet: Snippet) -> bool:
    """Whether a code span names a command without what it needs to run: its name alone, or with a placeholder."""
    text = re.sub(QUOTED, "''", reduced(snippet))
    return (
        snippet.inline
        and bool(PLACEHOLDER.search(text) or BARE.fullmatch(text))
        and snippet.language == "bash"
    )
