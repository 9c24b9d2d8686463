"""A trained network with all that was chosen for it, wherever it was read from."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from unet_jax.config import TUMORS, ModelConfig, PreprocessConfig, UserError
from unet_jax.inference import programs
from unet_jax.inference.network import Network
from unet_jax.models.compiler import computed_precision, library
from unet_jax.models.pretrained import HUB
from unet_jax.scoring.components import Postprocess


@dataclass(frozen=True, eq=False, kw_only=True)
class TrainedNetwork:
    """Network with all that was chosen for it: the checkpoint of a workdir, or a model folder."""

    path: Path
    """The workdir, or the model folder."""
    model_name: str | None
    """Name of the model folder; None for a workdir."""
    model: ModelConfig
    preprocess: PreprocessConfig
    size: int
    """Side of the input in pixels."""
    intensity_max: int
    """Largest intensity of the training slices at the network's size."""
    step: int
    """Training step of the weights."""
    seed: int
    """Seed of the run."""
    data_digest: str
    """Digest of the converted dataset that it was trained on."""
    sha256: str
    """Digest of the weights' files."""
    variables: Any
    """`params` and `batch_stats`, float32, on the device."""
    threshold: float | None
    """Probability from which on a pixel is tumour, chosen on validation; None where none was chosen for these
    weights."""
    threshold_note: str | None
    """Why there is no threshold; None where there is one."""
    postprocess: Postprocess | None
    """Cleaning of masks that was best on validation; None where none was chosen for these weights."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the network's outputs."""
        return ("tumor",) if self.model.classes == 1 else TUMORS

    @property
    def published_model(self) -> ModelConfig:
        """The model as it is told to others: of a local file of weights the name alone, without its folder."""
        weights = self.model.encoder_weights
        return replace(self.model, encoder_weights=weights if weights.startswith(HUB) else Path(weights).name)

    def chosen_threshold(self) -> float:
        """Return the threshold that was chosen on validation; UserError where none was for these weights."""
        if self.threshold is None:
            raise UserError(
                f"{self.path} has no threshold for step {self.step}: {self.threshold_note}. "
                f"Run `python -m unet_jax.eval --workdir {self.path} --split val` first."
            )
        return self.threshold

    def network(self, *, onednn: bool = True) -> Network:
        """Give the network as a predictor takes it, computed in bfloat16 only if it was trained so and that is faster.

        Args:
            onednn: use oneDNN where it is there: faster, but every process compiles anew. Eigen's programs are kept.
        """
        precision = computed_precision(self.model.precision, onednn=onednn)
        model, prep = replace(self.model, precision=precision), self.preprocess

        def probabilities(*batch: Any, tta: bool) -> Any:
            return programs.make_predict(model, prep, tta=tta, onednn=onednn)(self.variables, *batch)

        def spread(*image: Any, samples: int) -> Any:
            return programs.make_dropout_spread(model, prep, samples, onednn=onednn)(self.variables, *image)

        return Network(
            name=str(self.path),
            model_name=self.model_name,
            size=self.size,
            probabilities=probabilities,
            spread=spread if model.dropout else None,
            step=self.step,
            sha256=self.sha256,
            threshold=self.threshold,
            threshold_note=self.threshold_note,
            library=library(onednn=onednn),
            precision=precision,
            fixed_max=self.intensity_max if prep.kind == "fixed" else None,
        )
