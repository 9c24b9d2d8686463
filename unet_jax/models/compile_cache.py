"""Compiled programs, kept in the user's cache folder from one process to the next.

    ~/.cache/unet-jax/<processor>/<name>-cache           a program, written by jax
    ~/.cache/unet-jax/<processor>/<name>-cache.sha256    its seal, written when the process that made it ends

Programs are machine code: they are read only from a folder that nobody else can write to, and never on a processor of
another kind, as in a home folder on the network. jax writes them in place, never replaces one that is there, and,
depending on how it compresses, may not notice flipped bits. So a program whose seal is missing or wrong is removed
before jax looks, and compiled anew.
"""

import atexit
import contextlib
import hashlib
import itertools
import os
import platform
import shutil
import sys
import warnings
from pathlib import Path

import jax

LIMIT = 128_000_000
"""Bytes of programs kept, the newest ones. The default network's take 40 kB to predict on a CPU."""

_PROGRAM, _SEAL = "-cache", ".sha256"


def enable() -> None:
    """Keep what this process compiles, and use what earlier ones compiled.

    Does nothing where `JAX_COMPILATION_CACHE_DIR` names another folder or `JAX_ENABLE_COMPILATION_CACHE` is false.
    Where the folder cannot be used, a line on standard error says so and everything is compiled.
    """
    given = jax.config.values
    if given["jax_compilation_cache_dir"] is not None or not given["jax_enable_compilation_cache"]:
        return
    try:
        folder = _folder()
        damaged = _sweep(folder)
    except OSError as e:
        reason = f"{e.filename}: {e.strerror}" if e.filename else str(e)
        print(
            f"note: compiled programs are not kept ({reason}), so every start compiles. XDG_CACHE_HOME or "
            "JAX_COMPILATION_CACHE_DIR names another folder for them.",
            file=sys.stderr,
        )
        return
    if damaged:
        print(f"note: {damaged} damaged in {folder}: removed, and compiled anew when needed.", file=sys.stderr)
    # What cannot be read or written is compiled, so there is nothing that a person would have to do.
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache entry", UserWarning)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    # Also the many small programs of a few milliseconds: together they take as long as a large one.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    # These would lie in the same folder, without a seal.
    jax.config.update("jax_persistent_cache_enable_xla_caches", "none")
    atexit.register(_seal, folder)


def _folder() -> Path:
    """The folder of this processor's programs, made if absent; OSError where it cannot be used safely."""
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if given.is_absolute():
        base = given
    else:
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
    if (free := shutil.disk_usage(folder).free) < LIMIT:
        raise OSError(f"only {free / 1e6:.0f} MB are free in {folder}")
    probe = folder / f".{os.getpid()}.tmp"
    probe.touch()
    probe.unlink()
    return folder


def _processor() -> str:
    """A name for the kind of processor; machine code of one kind may stop a process on another."""
    kind = [platform.machine(), platform.processor()]
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as f:
        # One paragraph a core, all alike; of its lines, those that do not change from moment to moment.
        paragraph = itertools.takewhile(str.strip, f)
        kind += [line for line in paragraph if line.split(":")[0].strip() in ("model name", "flags", "Features", "isa")]
    return f"{platform.machine()}-{hashlib.sha256(' '.join(kind).encode()).hexdigest()[:12]}"


def _sweep(folder: Path) -> int:
    """Remove what is not whole, and the oldest programs beyond LIMIT.

    Returns:
        Number of programs that are not as they were sealed.
    """
    damaged, whole = 0, []
    for program in folder.glob("*" + _PROGRAM):
        try:
            status, sealed = program.stat(), _seal_of(program).read_bytes() == _digest(program)
        except FileNotFoundError:
            # Not sealed: its process was killed, or is still running and has it in memory.
            _remove(program)
            continue
        if sealed:
            whole.append((status.st_mtime_ns, status.st_size, program))
        else:
            damaged += 1
            _remove(program)
    total = 0
    for _, size, program in sorted(whole, reverse=True):
        total += size
        if total > LIMIT:
            _remove(program)
    return damaged


def _seal(folder: Path) -> None:
    """Seal the programs that have no seal yet."""
    with contextlib.suppress(OSError):
        for program in folder.glob("*" + _PROGRAM):
            if not _seal_of(program).exists():
                _seal_of(program).write_bytes(_digest(program))


def _seal_of(program: Path) -> Path:
    return program.with_name(program.name + _SEAL)


def _digest(program: Path) -> bytes:
    return hashlib.sha256(program.read_bytes()).hexdigest().encode()


def _remove(program: Path) -> None:
    # The seal last: without its program it says nothing, while a program without it is never used.
    program.unlink(missing_ok=True)
    _seal_of(program).unlink(missing_ok=True)
