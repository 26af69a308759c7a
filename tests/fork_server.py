"""Runs `musicldm` commands in forks of one process that has loaded the tiny checkpoint: 20 kills in seconds.

One JSON request a line on stdin, {"runs": [{"arguments", "environment", "kill_after", "kill_at"}]}: all runs
start at once. kill_after: seconds until SIGKILL. kill_at: which of the disk's turning points (before and after
each fsync, rename and link) is the process's last. One JSON answer a line: the exit statuses, -9 if killed.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

import torch
from helpers import TINY

import musicldm.cli.batch
from musicldm import MusicLDMPipeline


def mortal(function: Callable[..., Any], points: list[int]) -> Callable[..., Any]:
    """The function, with a turning point before and after it; points: [how many are left to live]."""

    def wrapped(*arguments: Any) -> Any:
        def turn() -> None:
            points[0] -= 1
            if points[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)

        turn()
        result = function(*arguments)
        turn()
        return result

    return wrapped


def run(request: dict[str, Any], pipe: MusicLDMPipeline) -> int:
    os.environ.update(request.get("environment", {}))
    if request.get("kill_at") is not None:
        points = [request["kill_at"]]
        for name in ("fsync", "replace", "link", "unlink"):
            setattr(os, name, mortal(getattr(os, name), points))
    musicldm.cli.batch.load_pipeline = lambda options: pipe
    return musicldm.cli.main(request["arguments"])


def fork(request: dict[str, Any], pipe: MusicLDMPipeline, log: int) -> int:
    child = os.fork()
    if child:
        return child
    os.dup2(log, 1)
    os.dup2(log, 2)
    status = 99
    try:
        status = run(request, pipe)
    finally:
        sys.stdout.flush()
        os._exit(status)


def main() -> None:
    torch.set_num_threads(1)
    pipe = MusicLDMPipeline.from_pretrained(TINY)
    log = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for line in sys.stdin:
        requests = json.loads(line)["runs"]
        children = [fork(request, pipe, log) for request in requests]
        timers = [
            threading.Timer(request["kill_after"], os.kill, (child, signal.SIGKILL))
            for child, request in zip(children, requests, strict=True)
            if "kill_after" in request
        ]
        for timer in timers:
            timer.start()
        statuses = []
        for child in children:  # the timers live in this process: a child is reaped before its number is free
            os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
            statuses.append(None)
        for timer in timers:
            timer.cancel()
            timer.join()
        statuses = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        sys.stdout.write(json.dumps(statuses) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
