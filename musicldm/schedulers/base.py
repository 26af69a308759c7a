"""What all solvers share: the noise schedule, the prediction type, the spacing of timesteps, the hub's config."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields, replace
from functools import cached_property
from typing import Any, ClassVar, TypeVar

from torch import Tensor

from .noise import NoiseSchedule
from .plan import Plan

__all__ = ["PREDICTION_TYPES", "SPACINGS", "Scheduler", "predict"]

PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")
SPACINGS = ("leading", "trailing", "linspace")

S = TypeVar("S", bound="Scheduler")


@dataclass(frozen=True, kw_only=True)
class Scheduler(ABC):
    """A solver's settings, under the hub's own names. `plan(steps)` turns them into a table.

    The defaults are MusicLDM's. Solvers are values: `dataclasses.replace` makes a changed one, and
    `OtherSolver.from_config(scheduler)` carries the noise schedule over to another solver.
    """

    hub_class: ClassVar[str]  # `_class_name` in the hub's scheduler_config.json

    num_train_timesteps: int = 1000
    beta_start: float = 0.0015
    beta_end: float = 0.0195
    beta_schedule: str = "scaled_linear"
    prediction_type: str = "epsilon"
    timestep_spacing: str = "leading"
    steps_offset: int = 1
    rescale_betas_zero_snr: bool = False

    def __post_init__(self) -> None:
        _one_of(self, "prediction_type", PREDICTION_TYPES)
        _one_of(self, "timestep_spacing", SPACINGS)
        self.noise_schedule  # noqa: B018  its own checks, now rather than at the first plan

    @cached_property
    def noise_schedule(self) -> NoiseSchedule:
        """The forward process that these settings describe."""
        return NoiseSchedule(**{f.name: getattr(self, f.name) for f in fields(NoiseSchedule)})

    def plan(self, num_inference_steps: int) -> Plan:
        """The table for that many steps.

        Raises ValueError if the number is below 1 or above `num_train_timesteps`.
        """
        if not 1 <= num_inference_steps <= self.num_train_timesteps:
            raise ValueError(
                f"{type(self).__name__}: got {num_inference_steps} inference steps, "
                f"expected 1 to {self.num_train_timesteps}"
            )
        return self._plan(num_inference_steps)

    @abstractmethod
    def _plan(self, num_inference_steps: int) -> Plan: ...

    def with_eta(self: S, eta: float) -> S:
        """The same solver with that share of ancestral noise; only DDIM has any.

        Raises ValueError if eta is not 0.
        """
        if eta != 0:
            raise ValueError(f"{type(self).__name__} has no eta, got {eta}; DDIM is the solver that takes one")
        return self


def predict(prediction_type: str, x: Tensor, out: Tensor, alpha: float, sigma: float) -> tuple[Tensor, Tensor]:
    """x = alpha x0 + sigma eps and a model output -> (x0, eps). Works on tensors and on a plan's symbols."""
    if prediction_type == "epsilon":
        return (x - sigma * out) / alpha, out
    if prediction_type == "sample":
        return out, (x - alpha * out) / sigma
    return alpha * x - sigma * out, alpha * out + sigma * x


def _one_of(scheduler: Scheduler, name: str, known: tuple[str, ...]) -> None:
    got = getattr(scheduler, name)
    if got not in known:
        raise ValueError(f"{type(scheduler).__name__}: got {name} {got!r}, expected one of {known}")
