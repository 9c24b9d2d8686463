"""Networks to predictors, whatever they are stored in: `unet_jax.load`. Imports jax only where a network takes it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec
from pathlib import Path

from unet_jax.config import UserError
from unet_jax.inference.exported.metadata import ONNX
from unet_jax.inference.exported.opening import is_exported, open_exported
from unet_jax.inference.predictor import Predictor, average_thresholds


def load(
    *workdirs: str | Path,
    model: str | Path | None = None,
    checkpoint: str = "best",
    threshold: float | None = None,
    tta: bool = False,
    postprocess: bool = False,
    uncertainty: bool = False,
    dropout_samples: int = 16,
    onednn: bool = True,
    keep_programs: bool = False,
) -> Predictor:
    """Load trained networks for use, also in a program or a notebook: `unet_jax.load("runs/a").predict(image)`.

    Args:
        workdirs: one run, or several to be averaged, as in `open_runs`. A single one may also be what `model` may be.
        model: instead of workdirs an exported file (.onnx, .stablehlo), or a model, as in `open_model`; without either
            it is the package's own, `SHIPPED`.
        checkpoint: as in `open_run`.
        threshold: in (0, 1); None for the one that was chosen on validation for this checkpoint, else 0.5. Of several
            networks their mean.
        postprocess: clean masks as was found best on validation (`Postprocess`).
        tta, uncertainty, dropout_samples: as in `Predictor`.
        onednn: as in `TrainedNetwork.network`; of no effect on exported files.
        keep_programs: keep compiled programs from one process to the next, as `models.compile_cache`.

    Raises:
        UserError: as `open_networks` and `open_exported`, a threshold out of range, networks of different sizes, no
            post-processing chosen yet, no dropout to sample, or jax is needed and not installed.
    """
    file = _exported(workdirs, model)
    if file is not None and checkpoint != "best":
        raise UserError(f"--checkpoint is {checkpoint}, but {file} has one set of weights. Give a --workdir with it.")
    if file is not None and uncertainty:
        raise UserError(f"{file} has no dropout in its graph, so one network alone has no spread. Give a --workdir.")
    if postprocess and find_spec("scipy") is None:
        raise UserError("--postprocess takes scipy, which is not installed: pip install scipy")
    without_jax = file is not None and file.suffix.lower() == ONNX
    named = model or next(iter(workdirs), "the package's own model")
    with nullcontext() if without_jax else _jax_for(named, keep_programs):
        if file is not None:
            exported = open_exported(file)
            networks, cleaning = [exported.network], exported.postprocess
        else:
            from unet_jax.runs.networks import least_postprocess, open_networks

            trained = open_networks(workdirs, checkpoint, model)
            networks = [one.network(onednn=onednn) for one in trained]
            cleaning = least_postprocess(trained) if postprocess else None
    value, note = average_thresholds(networks) if threshold is None else (threshold, None)
    return Predictor(
        networks,
        value,
        note,
        postprocess=cleaning if postprocess else None,
        tta=tta,
        uncertainty=uncertainty,
        dropout_samples=dropout_samples,
    )


def _exported(workdirs: Sequence[str | Path], model: str | Path | None) -> Path | None:
    """Find the exported file that is asked for; None where it is something else."""
    files = [given for given in workdirs if is_exported(given)]
    if files and len(workdirs) > 1:
        raise UserError(
            f"{files[0]} is an exported file, which is used alone. Give workdirs, or export them to one file, which "
            "averages them."
        )
    if files and model is None:
        return Path(files[0])
    return Path(model) if model is not None and not workdirs and is_exported(model) else None


@contextmanager
def _jax_for(network: str | Path, keep_programs: bool) -> Iterator[None]:
    """Prepare jax for a network; have the lack of it, or of another package that is needed, end in one line."""
    try:
        from unet_jax.models import compile_cache

        if keep_programs:
            compile_cache.enable()
        yield
    except ModuleNotFoundError as e:
        if e.name is None or e.name.startswith("unet_jax"):
            raise
        raise UserError(
            f"{network} takes {e.name}, which is not installed: pip install unet-jax. An ONNX file takes no jax."
        ) from None
