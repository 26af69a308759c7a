"""A page's snippets, run in their order in one folder, as somebody would who has just cloned the repository."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from helpers import PATIENCE

from .inputs import INPUTS
from .reading import Snippet
from .reductions import is_mention, not_run, reduced

ROOT = Path(__file__).parents[2]
DRIVER = """
import json, os, sys, traceback
answer, names = os.fdopen(os.dup(1), "w"), {"__name__": "__main__"}
os.dup2(2, 1)
for line in sys.stdin:
    try:
        exec(compile(json.loads(line), "<snippet>", "exec"), names)
        said = ""
    except BaseException:
        said = traceback.format_exc(limit=-3)
    print(json.dumps(said), file=answer, flush=True)
"""


@dataclass
class Session:
    """One page's folder, and one Python whose names its snippets share."""

    folder: Path
    _python: subprocess.Popen[str] | None = field(default=None, init=False)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        if self._python is not None:
            self._python.communicate(timeout=PATIENCE)

    @property
    def environment(self) -> dict[str, str]:
        known = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("MUSICLDM_", "HF_", "XDG_"))
        }
        return known | {
            "HOME": str(self.folder / "home"),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
            "PYTHONPATH": str(ROOT),
            "HF_HUB_CACHE": str(self.folder / "hub"),
            "HF_HUB_OFFLINE": "1",
            "MUSICLDM_RESULTS": str(self.folder / "results"),
            "OMP_NUM_THREADS": "1",
            "MPLBACKEND": "agg",
        }

    def run(self, language: str, text: str) -> str:
        """What went wrong, or nothing."""
        return self._bash(text) if language == "bash" else self._exec(text)

    def _bash(self, text: str) -> str:
        command = ["bash", "-euo", "pipefail", "-c", text]
        try:
            done = subprocess.run(
                command,
                cwd=self.folder,
                env=self.environment,
                capture_output=True,
                text=True,
                timeout=PATIENCE,
            )
        except subprocess.TimeoutExpired:
            return f"not done after {PATIENCE} s"
        return (
            ""
            if done.returncode == 0
            else f"exit status {done.returncode}\n{(done.stdout + done.stderr)[-1500:]}"
        )

    def _exec(self, text: str) -> str:
        named = re.match(r"# (\w+\.py)\n", text)
        if named:
            (self.folder / named[1]).write_text(text)
        if self._python is None:
            command = [sys.executable, "-c", DRIVER]
            self._python = subprocess.Popen(
                command, cwd=self.folder, env=self.environment, text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            )  # fmt: skip
        assert self._python.stdin is not None
        assert self._python.stdout is not None
        self._python.stdin.write(json.dumps(text) + "\n")
        self._python.stdin.flush()
        return json.loads(self._python.stdout.readline() or '"Python has died"')


def prepared(folder: Path, page: str) -> Session:
    """A folder with the clone's programs, the page's inputs, and a hub that has the tiny checkpoint alone."""
    for name in ("home", "results"):
        (folder / name).mkdir(parents=True)
    shutil.copytree(ROOT / "benchmarks", folder / "benchmarks")
    for name in ("musicldm", "weights_convert", "tests", "README.md"):
        (folder / name).symlink_to(ROOT / name)
    snapshot = folder / "hub" / "models--ucsd-reach--musicldm"
    (snapshot / "refs").mkdir(parents=True)
    (snapshot / "refs" / "main").write_text("0" * 40)
    shutil.copytree(ROOT / "tests" / "goldens" / "tiny-hub", snapshot / "snapshots" / ("0" * 40))
    for make in INPUTS[page]:
        make(folder)
    return Session(folder)


def failures(folder: Path, page: str, snippets: list[Snippet]) -> list[str]:
    """What failed of a page; a snippet that follows from another's failure fails too, and is shown."""
    found = []
    with prepared(folder, page) as session:
        for snippet in snippets:
            if not_run(snippet) or is_mention(snippet):
                continue
            text = reduced(snippet)
            begun = time.monotonic()
            wrong = session.run(snippet.language, text)
            with (folder / "times.txt").open("a") as file:  # what takes long: sort -n
                file.write(
                    f"{time.monotonic() - begun:6.1f} s  {snippet.page}:{snippet.line} {text[:100]!r}\n"
                )
            if wrong:
                found.append(f"{snippet.page}:{snippet.line}\n$ {text}\n{wrong}")
    return found
