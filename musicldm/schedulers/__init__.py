"""Noise schedules and solvers: a solver is a small frozen config, its `plan(steps)` a table of numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .base import Scheduler
from .ddim import DDIM, InverseDDIM
from .dpm import DPMSolver, DPMSolverSinglestep
from .euler import Euler, EulerAncestral
from .heun import Heun
from .hub import source_class
from .lms import LMS
from .noise import NoiseSchedule
from .plan import Plan, PlanBuilder, Row
from .pndm import PNDM
from .unipc import UniPC

__all__ = [
    "DDIM",
    "LMS",
    "PNDM",
    "SOLVERS",
    "DPMSolver",
    "DPMSolverSinglestep",
    "Euler",
    "EulerAncestral",
    "Heun",
    "InverseDDIM",
    "NoiseSchedule",
    "Plan",
    "PlanBuilder",
    "Row",
    "Scheduler",
    "UniPC",
    "from_config",
]

SOLVERS: tuple[type[Scheduler], ...] = (
    DDIM, InverseDDIM, DPMSolver, DPMSolverSinglestep, PNDM, LMS, Euler, EulerAncestral, Heun, UniPC,
)  # fmt: skip


def from_config(config: Mapping[str, Any], **overrides: Any) -> Scheduler:
    """The solver that a scheduler_config.json names in `_class_name`, in Diffusers' words or in ours.

    Raises ValueError if the name is missing or unknown, or the settings are (see `Scheduler.from_config`).
    """
    if "_class_name" not in config:
        raise ValueError(
            "scheduler config: got no _class_name; use the from_config of a solver, such as DDIM.from_config"
        )
    named = source_class(config["_class_name"])
    solver = next(solver for solver in SOLVERS if solver.hub_class == named)
    return solver.from_config(config, **overrides)
