"""Compiled programs kept between processes: used when whole, made anew when not, and never in a person's way."""

import json
import os
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers.disk import unwritable
from unet_jax import eval, predict, train
from unet_jax.models import compile_cache

PROGRAM = """
import collections, json
import jax, jax.numpy as jnp
from unet_jax.models import compile_cache
events = collections.Counter()
jax.monitoring.register_event_listener(lambda event, **_: events.update([event.rsplit("/", 1)[-1]]))
compile_cache.enable()
value = jax.jit(lambda x: jnp.sin(x) @ jnp.cos(x))(jnp.arange(64.0).reshape(8, 8) / 8)
print(json.dumps([events["cache_hits"], events["cache_misses"], value.tolist()]))
"""


def surroundings(**given: str) -> dict[str, str]:
    """The environment of a process for which nothing is set that decides where programs are kept, but for `given`."""
    names = ("JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "XDG_CACHE_HOME")
    return {name: value for name, value in os.environ.items() if name not in names} | given


def python(*argv: str, **given: str) -> subprocess.CompletedProcess[str]:
    """A process of its own that ends well."""
    command = [sys.executable, *argv]
    done = subprocess.run(command, env=surroundings(**given), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done


def compiled(**given: str) -> tuple[int, int, list, str]:
    """Programs found and programs stored by a process of its own, what it computed, and its standard error."""
    done = python("-c", PROGRAM, **given)
    hits, misses, value = json.loads(done.stdout)
    return hits, misses, value, done.stderr


def programs(cache: Path) -> list[Path]:
    return sorted(cache.glob("unet-jax/*/*-cache"))


def test_the_second_process_compiles_nothing(tmp_path):
    first = compiled(XDG_CACHE_HOME=str(tmp_path))
    second = compiled(XDG_CACHE_HOME=str(tmp_path))
    n = len(programs(tmp_path))
    assert n > 0 and first[:2] == (0, n) and second[:2] == (n, 0)
    assert first[2] == second[2] and first[3] == second[3] == ""
    if os.name == "posix":
        assert all(p.stat().st_mode & 0o777 == 0o700 for p in (tmp_path / "unet-jax").rglob("*") if p.is_dir())


def test_without_xdg_it_is_in_the_home_folder(tmp_path):
    assert compiled(HOME=str(tmp_path), XDG_CACHE_HOME="relative")[1] == len(programs(tmp_path / ".cache")) > 0


def flip(program: Path) -> None:
    content = bytearray(program.read_bytes())
    content[len(content) // 2] ^= 1
    program.write_bytes(content)


DAMAGES = {
    "flipped": flip,
    "cut": lambda program: program.write_bytes(program.read_bytes()[:100]),
    "empty": lambda program: program.write_bytes(b""),
    "without its time": lambda program: program.with_name(program.name.replace("-cache", "-atime")).unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_program_is_compiled_anew_and_stored(tmp_path, damage):
    value = compiled(XDG_CACHE_HOME=str(tmp_path))[2]
    n = len(programs(tmp_path))
    for program in programs(tmp_path):
        damage(program)
    assert compiled(XDG_CACHE_HOME=str(tmp_path)) == (0, n, value, "")
    assert compiled(XDG_CACHE_HOME=str(tmp_path)) == (n, 0, value, "")


def test_a_program_that_jax_cannot_load_is_compiled_in_silence(tmp_path):
    value = compiled(XDG_CACHE_HOME=str(tmp_path))[2]
    for program in programs(tmp_path):
        program.write_bytes(zlib.compress(b"no program"))
    hits, _, again, errors = compiled(XDG_CACHE_HOME=str(tmp_path))
    assert (hits, again, errors) == (0, value, "")


def test_nothing_is_kept_where_damage_would_not_be_seen(tmp_path):
    (tmp_path / "zstandard.py").write_text("from zlib import compress, decompress\n")
    cache = tmp_path / "cache"
    path = f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"
    assert compiled(XDG_CACHE_HOME=str(cache), PYTHONPATH=path)[:2] == (0, 0)
    assert not cache.exists()


def a_file(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "file").write_text("")
    return {"XDG_CACHE_HOME": str(tmp_path / "file")}


def below_a_file(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "unet-jax").write_text("")
    return {"XDG_CACHE_HOME": str(tmp_path)}


def no_home(tmp_path: Path) -> dict[str, str]:
    return {"HOME": str(tmp_path / "none")}


def open_to_all(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "unet-jax").mkdir()
    (tmp_path / "unet-jax").chmod(0o777)
    return {"XDG_CACHE_HOME": str(tmp_path)}


def read_only(tmp_path: Path) -> dict[str, str]:
    return {"XDG_CACHE_HOME": str(unwritable(tmp_path))}


@pytest.mark.skipif(os.name != "posix", reason="permissions as POSIX has them")
@pytest.mark.parametrize("place", [a_file, below_a_file, no_home, open_to_all, read_only])
def test_a_folder_that_cannot_be_used_costs_a_line(tmp_path, place):
    given = place(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    hits, misses, value, errors = compiled(**given)
    assert (hits, misses) == (0, 0) and np.isfinite(value).all()
    assert len(errors.splitlines()) == 1
    assert errors.startswith("note: compiled programs are not kept (")
    assert "unet-jax" in errors or next(iter(given.values())) in errors
    assert sorted(tmp_path.rglob("*")) == before


def test_the_users_own_folder_is_left_to_jax(tmp_path):
    own, other = tmp_path / "own", tmp_path / "other"
    given = {"JAX_COMPILATION_CACHE_DIR": str(own), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    assert compiled(XDG_CACHE_HOME=str(other), **given)[1] == len(list(own.glob("*-cache"))) > 0
    assert not other.exists()


def test_it_can_be_switched_off(tmp_path):
    given = {"JAX_ENABLE_COMPILATION_CACHE": "false", "XDG_CACHE_HOME": str(tmp_path)}
    assert compiled(**given)[:2] == (0, 0) and not list(tmp_path.iterdir())


def test_the_programs_last_used_are_kept_up_to_a_limit(tmp_path):
    compiled(XDG_CACHE_HOME=str(tmp_path))
    n, size = len(programs(tmp_path)), sum(p.stat().st_size for p in programs(tmp_path))
    limited = PROGRAM.replace("compile_cache.enable()", f"compile_cache.LIMIT = {size - 1}; compile_cache.enable()")
    python("-c", limited.replace("jnp.sin", "jnp.tan"), XDG_CACHE_HOME=str(tmp_path))
    assert sum(p.stat().st_size for p in programs(tmp_path)) < size and 0 < len(programs(tmp_path)) <= n


class Enabled(Exception):
    pass


@pytest.mark.parametrize("door", [train, eval, predict])
def test_the_doors_that_compile_enable_it(trained, tmp_path, monkeypatch, door):
    def enable():
        raise Enabled

    Image.fromarray(np.zeros((32, 32), np.uint8)).save(tmp_path / "a.png")
    monkeypatch.setattr(compile_cache, "enable", enable)
    images = ["--input", str(tmp_path / "a.png"), "--output", str(tmp_path / "out")]
    with pytest.raises(Enabled):
        door.main(["--workdir", str(trained), *(images if door is predict else [])])


def test_prediction_is_the_same_from_kept_new_and_damaged_programs(trained, tmp_path):
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (40, 50)).astype(np.uint8)).save(tmp_path / "a.png")
    argv = ["--workdir", str(trained), "--input", str(tmp_path / "a.png"), "--probabilities"]
    outcomes = []
    for i in range(3):
        out = tmp_path / f"out{i}"
        cache = str(tmp_path / "cache")
        done = python("-m", "unet_jax.predict", *argv, "--output", str(out), XDG_CACHE_HOME=cache)
        outcomes.append([(out / name).read_bytes() for name in ("a.png", "a.probs.npy", "predictions.csv")])
        kept = [p for p in programs(tmp_path / "cache") if p.name.startswith("jit_predict-")]
        assert len(kept) == 1
        assert done.stderr == ""
        if i == 1:
            flip(kept[0])
    assert outcomes[0] == outcomes[1] == outcomes[2]
