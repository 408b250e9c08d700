"""Whether an export is what was written: with the file, the ledger's public keys, and nothing of the server's."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from app.keys.jwk import VerificationKey, import_public_key
from app.ledger import checkpoints
from app.ledger.chain import GENESIS, Head
from app.ledger.checkpoints import Checkpoint, CheckpointRefused

FindKey = Callable[[str], VerificationKey | None]


class NotAsWritten(Exception):
    """The export was changed, cut, reordered or made up; the sentence says where."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export proves: its entries are a chain, and signatures vouch for all of them."""

    first: int
    """Number of its first entry."""
    head: Head
    """Its last entry."""
    checkpoints: int
    """Signed statements that agree with it, its own and those kept elsewhere."""
    beyond: int
    """The last entry that a checkpoint kept elsewhere speaks of: so far the ledger went on after the export."""


def read_keys(text: bytes) -> FindKey:
    """The ledger's public keys, as `deputy key list --json` prints them or as a JWK Set (RFC 7517 §5). Raises ValueError."""
    try:
        stated = orjson.loads(text)
        keys = {str(one["kid"]): import_public_key(one) for one in stated.get("ledger_jwks", stated)["keys"]}
    except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError):
        raise ValueError("These are no public keys of a ledger; `deputy key list --json` prints them.") from None
    return keys.get


def verify_export(export: Path, find_key: FindKey, kept: Iterable[Path] = ()) -> Exported:
    """Walk the export and hold every checkpoint against it. Raises NotAsWritten, OSError.

    It is read twice and never held whole: first its checkpoints, which come last, then its entries.
    """
    own = [
        _stated(f"line {n} of {export}", checkpoints.read, str(line["checkpoint"]), find_key)
        for n, line in _lines(export)
        if "checkpoint" in line
    ]
    others = [_stated(f"line {n} of {path}", checkpoints.read_line, line, find_key) for path in kept for n, line in checkpoints.lines(path)]
    signed: defaultdict[int, list[str]] = defaultdict(list)
    for point in (*own, *others):
        signed[point.seq].append(point.hash)
    heads = _heads(export)
    start = head = next(heads)
    agree, covered = 0, start.seq
    for head in heads:
        if (hashes := signed.get(head.seq)) is not None:
            if set(hashes) != {head.hash}:
                raise NotAsWritten(f"A checkpoint says another hash at entry {head.seq}.")
            agree, covered = agree + len(hashes), head.seq
    if head.seq < max((point.seq for point in own), default=0):
        raise NotAsWritten(f"The end is cut: what comes after entry {head.seq} was signed too.")
    if covered < head.seq:
        raise NotAsWritten(f"No checkpoint covers entry {covered + 1} and what follows.")
    beyond = max((point.seq for point in others), default=0)
    return Exported(start.seq + 1, head, agree, beyond if beyond > head.seq else 0)


def _stated(where: str, read: Callable[[Any, FindKey], Checkpoint], signed: str | bytes, find_key: FindKey) -> Head:
    try:
        return read(signed, find_key).head
    except CheckpointRefused as refused:
        raise NotAsWritten(f"{where[0].upper()}{where[1:]}: {refused}.") from None


def _heads(export: Path) -> Iterator[Head]:
    """Where the chain begins, then where it stands after each entry, as computed here."""
    lines = iter(_lines(export))
    number, line = next(lines, (1, {}))
    try:
        head = Head(0, GENESIS)
        if "after" in line:
            head = Head(int(line["after"]["seq"]), bytes.fromhex(line["after"]["hash"]).hex())
            number, line = next(lines, (2, {}))
        yield head
        while "record" in line:
            head = head.extended(line["record"].encode())
            if line["seq"] != head.seq or line["hash"] != head.hash:
                raise NotAsWritten(f"Entry {head.seq} is not what was written.")
            yield head
            number, line = next(lines, (number + 1, {}))
        while "checkpoint" in line:
            number, line = next(lines, (number + 1, {}))
    except (KeyError, TypeError, ValueError, AttributeError):
        line = {"": ""}
    if line:
        raise NotAsWritten(f"Line {number} is no line of an export.")


def _lines(export: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    with export.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                stated = orjson.loads(line)
            except orjson.JSONDecodeError:
                stated = None
            if not isinstance(stated, dict):
                raise NotAsWritten(f"Line {number} is no line of an export.")
            yield number, stated
