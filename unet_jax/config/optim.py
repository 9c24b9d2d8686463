"""Defaults of the optimizer and the course of its learning rate."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from unet_jax.config.checks import Checked, Rule, added


@dataclass(frozen=True)
class OptimConfig(Checked):
    """Adam and its schedule."""

    epochs: int = 50
    """May be raised when a run is finished; under cosine with the learning rate that the new epochs begin with."""
    learning_rate: float = 1e-3
    schedule: Literal["exponential", "cosine", "constant"] = "exponential"
    """Course of the learning rate from `learning_rate` to `final_learning_rate` over the run."""
    final_learning_rate: float = 1e-4
    warmup_epochs: float = 0.0
    """Linear rise from zero at the start."""
    clip_norm: float = 0.0
    """Largest global norm of the gradient; 0 clips nothing."""
    early_stopping: int = 0
    """Stop after so many epochs without a better validation IoU; 0 never stops."""
    weight_decay: float = added(0.0, since="0.2.0")
    """Decay of convolutions' kernels, in multiples of the learning rate (AdamW)."""
    encoder_lr_scale: float = added(1.0, since="0.2.0")
    """Learning rate of the encoder, in multiples of that of the rest."""
    freeze_encoder_epochs: float = added(0.0, since="0.2.0")
    """Time at the start during which the encoder's weights and running statistics stay as they are."""
    ema_decay: float = added(0.0, since="0.2.0")
    """Decay of the moving average of weights and statistics that is evaluated and kept in their place; 0 for none."""
    stretches: tuple[tuple[int, float], ...] = added((), since="0.2.0")
    """Later stretches, in which the schedule begins anew: for each the epochs before it, and its first learning rate.
    One that begins below `final_learning_rate` stays there. Stored where the epochs of a finished run are raised."""

    @property
    def courses(self) -> list[tuple[float, float]]:
        """First and last learning rate of the beginning and of each later stretch; a later one never rises."""
        later = [(first, min(first, self.final_learning_rate)) for _, first in self.stretches]
        courses = [(self.learning_rate, self.final_learning_rate), *later]
        return [(first, first) for first, _ in courses] if self.schedule == "constant" else courses

    @property
    def jumps(self) -> bool:
        """Tells of a later stretch that began at another rate than the one before it ended at, as somebody asked."""
        return any(first != last for (_, last), (first, _) in pairwise(self.courses))

    def rules(self) -> Iterable[Rule]:
        yield Rule("epochs", self.epochs >= 1, "at least 1")
        yield Rule("learning_rate", self.learning_rate > 0, "above 0")
        yield Rule("final_learning_rate", self.final_learning_rate > 0, "above 0")
        shorter = 0 <= self.warmup_epochs < self.epochs
        yield Rule("warmup_epochs", shorter, "at least 0 and less than optim.epochs")
        yield Rule("clip_norm", self.clip_norm >= 0, "at least 0")
        yield Rule("early_stopping", self.early_stopping >= 0, "at least 0")
        yield Rule("weight_decay", self.weight_decay >= 0, "at least 0")
        yield Rule("encoder_lr_scale", self.encoder_lr_scale >= 0, "at least 0")
        yield Rule("freeze_encoder_epochs", self.freeze_encoder_epochs >= 0, "at least 0")
        yield Rule("ema_decay", 0 <= self.ema_decay < 1, "in [0, 1)")
        bounds = [0, *(before for before, _ in self.stretches), self.epochs]
        rises = all(one < other for one, other in pairwise(bounds))
        rates = all(0 < rate < math.inf for _, rate in self.stretches)
        yield Rule("stretches", rises and rates, "epochs that rise below optim.epochs, each with a rate above 0")
