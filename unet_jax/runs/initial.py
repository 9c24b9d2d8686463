"""Start of a run from another network's weights: what of them fits, whom they have seen, and initial.json of it."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Int64

from unet_jax.config import Config, ModelConfig, UserError
from unet_jax.data.converted.arrays import Arrays, open_arrays
from unet_jax.data.recognise import keys_of, recognise
from unet_jax.data.splits import Split
from unet_jax.models.network import abstract_variables
from unet_jax.models.pretrained import Pretrained
from unet_jax.runs.model_folder import WEIGHTS, is_shipped, open_model, read_info, read_training_slices
from unet_jax.runs.networks import TrainedRun, open_run
from unet_jax.runs.opening import Say
from unet_jax.runs.trained import TrainedNetwork
from unet_jax.runs.workdir import Workdir
from unet_jax.shared.files import write_text
from unet_jax.training.checkpoints.trees import flatten

MOST_NAMED = 4
"""Arrays left out that a line names."""


@dataclass(frozen=True)
class EncoderWeights:
    """The file of weights that the encoder started from."""

    source: str
    sha256: str


@dataclass(frozen=True)
class InitFrom:
    """The network whose weights a run started from."""

    source: str
    """Workdir or folder of the network, or its name in the package."""
    sha256: str
    """Digest of its weights."""
    arrays: int
    """Arrays taken."""
    of: int
    """Arrays that the run's network has."""
    seen: dict[str, int | None]
    """Number of slices of `val` and of `test` whose patient is one of `patients`; None where it cannot be told."""
    patients: list[str] | None
    """Patients of the run's data that the weights were trained on; None where it cannot be told."""


@dataclass(frozen=True)
class Initial:
    """The content of initial.json: weights that a run started from, besides those it drew."""

    encoder_weights: EncoderWeights | None
    init_from: InitFrom | None


@dataclass(frozen=True, eq=False)
class Source:
    """Network that a run starts from, compared with the run's own."""

    name: str
    """Text of the option `init_from`."""
    network: TrainedNetwork
    taken: dict[str, np.ndarray]
    """Arrays that fit, by name; float32."""
    left_out: list[str]
    """Names of the run's arrays that have none."""

    def describe(self) -> str:
        """Say what is taken."""
        of = len(self.taken) + len(self.left_out)
        names = [name.removeprefix("params/") for name in self.left_out[:MOST_NAMED]]
        if len(self.left_out) > MOST_NAMED:
            names.append(f"{len(self.left_out) - MOST_NAMED} more")
        without = f" (not {', '.join(names)})" if names else ""
        return f"Starts from {self.name}: {len(self.taken)} of {of} arrays{without}."


def open_source(init_from: str, model: ModelConfig) -> Source:
    """Load the network that a run starts from, and take of it what has the name and shape of one of the run's arrays.

    Args:
        init_from: as in `Config`.
        model: the run's network.

    Raises:
        UserError: there is no such network, it is damaged, or no kernel of it fits but the output layer's.
    """
    path = Path(init_from)
    if is_shipped(init_from) or (path / WEIGHTS).is_file():
        network = open_model(init_from)
    elif path.is_dir():
        network = open_run(path)
    else:
        raise UserError(
            f"--init-from is {init_from}; expected the workdir of a trained run, a folder that `unet_jax.export` "
            "wrote, or the name of a model of the package."
        )
    found, expected = flatten(jax.device_get(network.variables)), flatten(abstract_variables(model))
    fits = [name for name, x in expected.items() if name in found and found[name].shape == x.shape]
    if not any(name.endswith("/kernel") and not name.startswith("params/output/") for name in fits):
        raise UserError(
            f"--init-from {init_from}: no kernel of it but the output's has the name and shape of one of this "
            "network's. Give one of the same encoder and width."
        )
    return Source(init_from, network, {n: np.asarray(found[n]) for n in fits}, [n for n in expected if n not in fits])


def initial_arrays(workdir: Workdir, config: Config) -> dict[str, np.ndarray] | None:
    """Read, for the first step of a stored run, the arrays that it starts from; None where all are its own.

    Raises:
        UserError: as `open_source`; or the source has other weights by now than when the run was stored.
    """
    if config.init_from is None:
        return None
    source, stored = open_source(config.init_from, config.model), read_initial(workdir, config)
    sha256 = stored.init_from.sha256 if stored and stored.init_from else None
    if source.network.sha256 != sha256:
        raise UserError(
            f"{config.init_from} has other weights (SHA-256 {source.network.sha256}) than when the run in "
            f"{workdir.path} was begun ({sha256}). Use another --workdir."
        )
    return source.taken


def store_initial(
    workdir: Workdir, arrays: Arrays, split: Split, weights: Pretrained | None, source: Source | None, say: Say
) -> None:
    """Write initial.json of a new run; of one that draws all its weights there is none.

    Args:
        workdir, arrays, split: of the run.
        weights: what its encoder starts from.
        source: what its network starts from.
        say: told which slices held out those weights have seen.
    """
    if weights is None and source is None:
        workdir.initial.unlink(missing_ok=True)  # of a run that was begun with other options, and not stored
        return
    encoder = EncoderWeights(weights.source, weights.sha256) if weights else None
    initial = Initial(encoder, _init_from(source, arrays, split, say) if source else None)
    write_text(workdir.initial, json.dumps(asdict(initial), indent=2, ensure_ascii=False) + "\n", durable=True)


def _init_from(source: Source, arrays: Arrays, split: Split, say: Say) -> InitFrom:
    """Describe a source for initial.json, and say whom it has seen."""
    patients = known_patients(source.network, arrays)
    seen = {side: _count(patients, arrays, split.rows(arrays, side)) for side in ("val", "test")}
    if patients is None:
        say(f"It cannot be told which validation and test slices are of patients that {source.name} was trained on.")
    elif any(seen.values()):
        say(
            f"{seen['val']} of {len(split.val)} validation and {seen['test']} of {len(split.test)} test slices are of "
            f"patients that {source.name} was trained on."
        )
    return InitFrom(
        source=source.name,
        sha256=source.network.sha256,
        arrays=len(source.taken),
        of=len(source.taken) + len(source.left_out),
        seen=seen,
        patients=None if patients is None else sorted(patients),
    )


def _count(patients: set[str] | None, arrays: Arrays, rows: Int64[np.ndarray, " n"]) -> int | None:
    return None if patients is None else sum(str(pid) in patients for pid in arrays.pids[rows])


def known_patients(network: TrainedNetwork, arrays: Arrays) -> set[str] | None:
    """Find the patients of a dataset that a network was trained on, or the one whose weights it started from itself.

    Those of a run on the same data are named in its split. Otherwise a patient is one of whom a slice is recognised, by
    any key, among the network's training slices: those that its folder has keys of, or of its own data.

    Returns:
        The patients; None where it cannot be told, since the run's data are gone or others by now, or since the network
        has started from another one on other data.
    """
    if not isinstance(network, TrainedRun):
        if read_info(network.path).init_from is not None:
            return None
        among = read_training_slices(network.path)
    else:
        initial = read_initial(network.workdir, network.config)
        before = initial.init_from if initial else None
        if network.split.data_digest == arrays.digest:
            trained = {str(pid) for pid in arrays.pids[network.split.rows(arrays, "train")]}
            if before is None:
                return trained
            return None if before.patients is None else trained | set(before.patients)
        if before is not None:
            return None
        try:
            theirs = open_arrays(network.workdir.data(network.config))
        except UserError:
            return None
        if theirs.digest != network.split.data_digest:
            return None
        among = keys_of(theirs, network.split.rows(theirs, "train"))
    found = recognise(keys_of(arrays, np.arange(len(arrays))), among).any(axis=1)
    return {str(pid) for pid in arrays.pids[found]}


def read_initial(workdir: Workdir, config: Config) -> Initial | None:
    """Read initial.json; None for a run that drew all its weights.

    Raises:
        UserError: it is damaged, or absent although the configuration names a network that the run started from.
    """
    try:
        content = json.loads(workdir.initial.read_text("utf-8"))
        encoder, source = content["encoder_weights"], content["init_from"]
        initial = Initial(
            None if encoder is None else EncoderWeights(**encoder), None if source is None else InitFrom(**source)
        )
        if initial.init_from is not None and not _is_told(initial.init_from):
            raise TypeError
    except FileNotFoundError:
        if config.init_from is None:
            return None
        raise UserError(
            f"{workdir.initial} is missing, and the run started from {config.init_from}. Restore it."
        ) from None
    except (ValueError, TypeError, KeyError):
        raise UserError(f"{workdir.initial} is damaged. Restore it, or start in an empty workdir.") from None
    return initial


def _is_told(source: InitFrom) -> bool:
    """Tell whether patients are a list of names, or None."""
    return source.patients is None or (
        isinstance(source.patients, list) and all(isinstance(pid, str) for pid in source.patients)
    )


def started_from(scored: Iterable[tuple[TrainedRun, Int64[np.ndarray, " _"]]], arrays: Arrays) -> dict[str, Any] | None:
    """Collect for summary.json what scored runs started from, and how many of the slices those weights had seen.

    Args:
        scored: runs, each with the rows that it was scored on; of several runs averaged they are the same.
        arrays: the dataset.

    Returns:
        `seen`, the number of slices of patients whom the weights that any of the runs started from were trained on,
        None where it cannot be told; and `runs`, for each its initial.json without the patients. None where no run has
        one.
    """
    seen, runs, told, found = set(), [], True, False
    for run, rows in scored:
        initial = read_initial(run.workdir, run.config)
        found = found or initial is not None
        entry: dict[str, Any] = asdict(initial or Initial(None, None))
        if entry["init_from"] is not None:
            patients = entry["init_from"].pop("patients")
            if patients is None or run.split.data_digest != arrays.digest:
                told = False
            else:
                seen |= {int(row) for row in rows if str(arrays.pids[row]) in patients}
        runs.append(entry)
    return {"seen": len(seen) if told else None, "runs": runs} if found else None
