"""The `musicldm` command: one file per subcommand.

Nothing heavy is imported before a command has read its arguments.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from . import batch, beats, convert, corpus, edit, evaluate, generate, inspect, manifest, mix, report, train

__all__ = ["main", "parser"]

# as in `musicldm --help`
COMMANDS = (
    generate, edit, batch, report, evaluate, inspect, convert, manifest, beats, mix, train, corpus
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit status: 0, 1 for an error that was reported, 130 after Ctrl-C."""
    options = parser().parse_args(arguments)
    logging.basicConfig(format="musicldm: %(message)s")
    try:
        return int(options.run(options))
    except KeyboardInterrupt:
        print("musicldm: interrupted", file=sys.stderr)
        return 130
    except (ValueError, TypeError, OSError, RuntimeError, ImportError, FloatingPointError) as error:
        print(f"musicldm: error: {error}", file=sys.stderr)
        return 1


def parser() -> argparse.ArgumentParser:
    """What `musicldm --help` shows."""
    whole = argparse.ArgumentParser(prog="musicldm", description="Text to music by latent diffusion.")
    commands = whole.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    return whole
