"""Compiled programs, kept in the user's cache folder from one process to the next, by jax's own cache.

Programs are machine code: they are read only from a folder that nobody else can write to, `unet-jax/<processor>` in
~/.cache or XDG_CACHE_HOME, and never on a processor of another kind, as in a home folder on the network.
"""

import hashlib
import importlib.util
import itertools
import os
import platform
import sys
import warnings
import zlib
from pathlib import Path

import jax

LIMIT = 128_000_000
"""Bytes of programs kept, the last used ones. The default network's take 40 kB to predict on a CPU."""


def enable() -> None:
    """Keep what this process compiles, and use what earlier ones compiled.

    Does nothing where `JAX_COMPILATION_CACHE_DIR` names another folder, where `JAX_ENABLE_COMPILATION_CACHE` is false,
    or where jax would pack programs by Zstandard: without a checksum, so that it runs damaged ones (tried with jax
    0.10.2: two of eight flipped bits went unnoticed). zlib has one. Where the folder cannot be used, a line on standard
    error says so and everything is compiled.
    """
    # What cannot be read or written is compiled, so there is nothing that a person would have to do. Programs that call
    # oneDNN (`models.compiler`) cannot be written.
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache entry", UserWarning)
    given = jax.config.values
    if given["jax_compilation_cache_dir"] is not None or not given["jax_enable_compilation_cache"]:
        return
    if sys.version_info >= (3, 14) or importlib.util.find_spec("zstandard"):
        return
    try:
        folder = _folder()
        _remove_damaged(folder)
    except OSError as e:
        reason = f"{e.filename}: {e.strerror}" if e.filename else str(e)
        print(
            f"note: compiled programs are not kept ({reason}), so every start compiles. XDG_CACHE_HOME or "
            "JAX_COMPILATION_CACHE_DIR names another folder for them.",
            file=sys.stderr,
        )
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_compilation_cache_max_size", LIMIT)
    # Also the many small programs of a few milliseconds: together they take as long as a large one.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    # These would lie in the same folder, without a checksum.
    jax.config.update("jax_persistent_cache_enable_xla_caches", "none")


def _folder() -> Path:
    """Make the folder of this processor's programs; OSError where it cannot be used safely."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not base.is_absolute():
        home = Path(os.path.expanduser("~"))
        if not home.is_dir():
            raise OSError(f"there is no home folder {home}")
        base = home / ".cache"
    base.mkdir(mode=0o700, parents=True, exist_ok=True)
    for folder in (base / "unet-jax", base / "unet-jax" / _processor()):
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.stat()
        if hasattr(os, "geteuid") and (status.st_uid != os.geteuid() or status.st_mode & 0o022):
            raise OSError(f"{folder} is not this user's alone")
    probe = folder / f".{os.getpid()}.tmp"
    probe.touch()
    probe.unlink()
    return folder


def _processor() -> str:
    """Name the kind of processor; machine code of one kind may stop a process on another."""
    kind = [platform.machine(), platform.processor()]
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8") as f:
            # One paragraph a core, all alike; of its lines, those that do not change from moment to moment.
            paragraph = list(itertools.takewhile(str.strip, f))
        kind += [line for line in paragraph if line.split(":")[0].strip() in ("model name", "flags", "Features", "isa")]
    return f"{platform.machine()}-{hashlib.sha256(' '.join(kind).encode()).hexdigest()[:12]}"


def _remove_damaged(folder: Path) -> None:
    """Remove programs that are cut off or garbled: jax replaces none that is there, and would compile at each start."""
    for program in folder.glob("*-cache"):
        try:
            zlib.decompress(program.read_bytes())
            # jax keeps no more programs where one lacks the file that says when it was used last.
            program.with_name(program.name.removesuffix("-cache") + "-atime").stat()
        except (zlib.error, FileNotFoundError):
            program.unlink(missing_ok=True)
