"""Damages the bytes of checkpoint files, whatever they hold."""

import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random

import torch

from .hostile import read_members, write_members


def load(path: Path) -> dict:
    return torch.load(path, weights_only=False)


def without_member(path: Path, rng: Random) -> None:
    members = read_members(path)
    members.pop(rng.choice(list(members)))
    write_members(path, members)


def twice(path: Path, rng: Random) -> None:
    """Appends a second member under a name that the archive already has."""
    with zipfile.ZipFile(path, 'a') as archive:
        name = rng.choice(archive.namelist())
        archive.writestr(name, bytes(len(archive.read(name))))


def compressed(path: Path, rng: Random) -> None:
    write_members(path, read_members(path), zipfile.ZIP_DEFLATED)


def bomb(path: Path, rng: Random) -> None:
    """Adds a billion zeros, compressed to a megabyte."""
    members = read_members(path)
    write_members(path, dict(members, **{f'{next(iter(members)).partition("/")[0]}/data/bomb': bytes(10**9)}),
                  zipfile.ZIP_DEFLATED)


def prepended(path: Path, rng: Random) -> None:
    path.write_bytes(rng.randbytes(100) + path.read_bytes())


def appended(path: Path, rng: Random) -> None:
    path.write_bytes(path.read_bytes() + rng.randbytes(100))


def web_page(path: Path, rng: Random) -> None:
    path.write_text('<!DOCTYPE html><html><body>404</body></html>')


def endless(path: Path, rng: Random) -> None:
    path.unlink()
    path.symlink_to('/dev/zero')


def loop(path: Path, rng: Random) -> None:
    path.unlink()
    path.symlink_to(path)


def old_format(change: Callable[[Path, Random], None] = lambda path, rng: None) -> Callable[[Path, Random], None]:
    """Returns a function that saves as PyTorch did before 1.6, without checksums, and then changes the bytes."""

    def damage(path: Path, rng: Random) -> None:
        torch.save(load(path), path, _use_new_zipfile_serialization=False)
        change(path, rng)

    return damage
