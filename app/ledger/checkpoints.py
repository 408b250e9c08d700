"""Signed statements of where the chain stood, kept in the database and in an append-only file outside it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson

from app.keys.signer import SigningKey, prepare
from app.keys.verifier import JWTRefused, VerificationKey, require_str, require_time, verify
from app.ledger.chain import Head
from app.vocabulary import JWTType, SigningAlg

TYP = frozenset({JWTType.CHECKPOINT.value})
ALGORITHMS = frozenset({SigningAlg.ES256})


class CheckpointRefused(ValueError):
    """A line or row that is not a checkpoint signed by a ledger key of this deployment."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The chain stood here, at that second since 1970, says a signature."""

    head: Head
    at: int
    jws: str


def sign(head: Head, at: int, issuer: str, key: SigningKey) -> Checkpoint:
    """A checkpoint of the head. Its claims: `iss`, `seq`, `hash`, `iat`."""
    claims = {"iss": issuer, "seq": head.seq, "hash": head.hash, "iat": at}
    return Checkpoint(head, at, prepare(claims, JWTType.CHECKPOINT.value, key).sign())


def read(jws: str, issuer: str, find_key: Callable[[str], VerificationKey | None]) -> Checkpoint:
    """The checkpoint a JWS states. Raises `CheckpointRefused`."""
    try:
        claims = verify(jws, find_key=lambda header: find_key(str(header.get("kid", ""))), typ=TYP, algorithms=ALGORITHMS).claims
        if require_str(claims, "iss") != issuer:
            raise CheckpointRefused("a checkpoint of another issuer")
        return Checkpoint(Head(require_time(claims, "seq"), require_str(claims, "hash")), require_time(claims, "iat"), jws)
    except JWTRefused as refused:
        raise CheckpointRefused(f"not a checkpoint of ours: {refused.reason}") from None


def append(path: Path, checkpoints: Iterable[Checkpoint]) -> None:
    """Add checkpoints to the file and wait for the disk."""
    lines = b"".join(
        orjson.dumps({"seq": point.head.seq, "hash": point.head.hash, "at": point.at, "jws": point.jws}) + b"\n" for point in checkpoints
    )
    if not lines:
        return
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(handle, lines)
        os.fsync(handle)
    finally:
        os.close(handle)


def last_written(path: Path) -> int:
    """The number the file's last whole line speaks of; 0 without one."""
    seq = 0
    for line in _tail(path):
        try:
            seq = int(orjson.loads(line)["seq"])
        except (ValueError, KeyError, TypeError):
            continue
    return seq


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Line number and JWS of each line. Raises `CheckpointRefused` for a line that is none, save a half-written last one."""
    content = path.read_bytes().splitlines(keepends=True)
    for number, line in enumerate(content, 1):
        try:
            yield number, str(orjson.loads(line)["jws"])
        except (ValueError, KeyError, TypeError):
            if number == len(content) and not line.endswith(b"\n"):
                return
            raise CheckpointRefused(f"line {number} of {path} is not a checkpoint") from None


def _tail(path: Path, size: int = 8192) -> list[bytes]:
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - size))
            return file.read().splitlines()
    except FileNotFoundError:
        return []
