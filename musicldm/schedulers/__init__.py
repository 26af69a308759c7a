"""Noise schedules and solvers: each solver is a small frozen config whose `plan(steps)` is a table of numbers."""

from .base import Scheduler
from .ddim import DDIM
from .noise import NoiseSchedule
from .plan import Plan, PlanBuilder, Row

__all__ = ["DDIM", "NoiseSchedule", "Plan", "PlanBuilder", "Row", "Scheduler"]
