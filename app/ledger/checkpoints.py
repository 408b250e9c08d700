"""Signed statements of where the chain stood, kept in the database and in an append-only file outside it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from app.keys.signer import SigningKey, prepare
from app.keys.verifier import JWTRefused, VerificationKey, require_str, require_time, verify
from app.ledger.chain import Head
from app.vocabulary import JWTType, SigningAlg

TYP = frozenset({JWTType.CHECKPOINT.value})
ALGORITHMS = frozenset({SigningAlg.ES256})
BEGINNING = b'{"seq":'


class CheckpointRefused(ValueError):
    """A line or row that is not a checkpoint signed by a ledger key of this deployment."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The chain stood here, at that second since 1970, says a signature, for that issuer."""

    head: Head
    at: int
    jws: str
    issuer: str


def sign(head: Head, at: int, issuer: str, key: SigningKey) -> Checkpoint:
    """A checkpoint of the head. Its claims: `iss`, `seq`, `hash`, `iat`."""
    claims = {"iss": issuer, "seq": head.seq, "hash": head.hash, "iat": at}
    return Checkpoint(head, at, prepare(claims, JWTType.CHECKPOINT.value, key).sign(), issuer)


def read(jws: str, find_key: Callable[[str], VerificationKey | None]) -> Checkpoint:
    """The checkpoint a JWS states. Raises `CheckpointRefused`.

    The key says that it is of this deployment, not `iss`: an issuer may move to another name, and its past stays its own.
    """
    try:
        claims = verify(jws, find_key=lambda header: find_key(str(header.get("kid", ""))), typ=TYP, algorithms=ALGORITHMS).claims
        head = Head(require_time(claims, "seq"), require_str(claims, "hash"))
        return Checkpoint(head, require_time(claims, "iat"), jws, require_str(claims, "iss"))
    except JWTRefused as refused:
        raise CheckpointRefused(f"not a checkpoint of ours: {refused.reason}") from None


def read_line(line: bytes, find_key: Callable[[str], VerificationKey | None]) -> Checkpoint:
    """The checkpoint a line of the file states, beside its JWS as in it. Raises `CheckpointRefused`."""
    stated = _object(line)
    if stated is None:
        raise CheckpointRefused("not a checkpoint")
    point = read(str(stated["jws"]), find_key)
    if stated != orjson.loads(_line(point)):
        raise CheckpointRefused("says something else beside its signature than in it")
    return point


def append(path: Path, checkpoints: Iterable[Checkpoint]) -> None:
    """Add checkpoints to the file and wait for the disk. Whatever is there stays as it is."""
    content = b"".join(_line(point) + b"\n" for point in checkpoints)
    if not content:
        return
    new = not path.exists()
    handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        if _ends_within_a_line(handle):
            # A full disk or a power cut left a piece of a line. It stays; the line follows, whole.
            content = b"\n" + content
        while content:
            content = content[os.write(handle, content) :]
        os.fsync(handle)
    finally:
        os.close(handle)
    if new:
        _keep_name(path)


def last_written(path: Path) -> int:
    """The number the file's last whole line speaks of; 0 without one."""
    seq = 0
    for line in _tail(path):
        if (stated := _object(line)) is not None:
            seq = int(stated["seq"])
    return seq


def lines(path: Path, size: int | None = None) -> Iterator[tuple[int, bytes]]:
    """Number and content of each line within the first `size` bytes, without the pieces that a torn write left."""
    left = path.stat().st_size if size is None else size
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if left <= 0:
                return
            content, left = line[:left], left - len(line)
            if not _is_torn(content):
                yield number, content


def _line(point: Checkpoint) -> bytes:
    return orjson.dumps({"seq": point.head.seq, "hash": point.head.hash, "at": point.at, "jws": point.jws})


def _object(line: bytes) -> Mapping[str, Any] | None:
    try:
        stated = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return stated if isinstance(stated, dict) and isinstance(stated.get("seq"), int) and "jws" in stated else None


def _is_torn(line: bytes) -> bool:
    """Whether it is a line of ours that ends too early. It says as little as a line that is not there."""
    if not BEGINNING.startswith(line[: len(BEGINNING)].rstrip()):
        return False
    try:
        orjson.loads(line)
    except orjson.JSONDecodeError:
        return True
    return False


def _ends_within_a_line(handle: int) -> bool:
    size = os.fstat(handle).st_size
    return size > 0 and os.pread(handle, 1, size - 1) != b"\n"


def _keep_name(path: Path) -> None:
    """A new file's name is in its folder, which the disk must have too."""
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _tail(path: Path, size: int = 8192) -> list[bytes]:
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - size))
            return file.read().splitlines()
    except FileNotFoundError:
        return []
