"""A ledger on paper: entries in batches, each with its checkpoint, as a relay writes them, without a server around it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import Table, create_engine, insert, text
from sqlalchemy.pool import StaticPool

from app.database import Base, Database
from app.keys.jwk import VerificationKey, generate_client_key, import_public_key, public_part
from app.keys.signer import import_signing_key
from app.ledger import checkpoints
from app.ledger.chain import GENESIS, Head
from app.ledger.models import CheckpointRow, EntryRow, RelayRow
from app.ledger.relay import columns_of
from app.ledger.verify import Verdict, Verifier
from app.vocabulary import SigningAlg

ISSUER = "https://deputy.example"
PRIVATE = generate_client_key(SigningAlg.ES256)
SIGNING = import_signing_key(PRIVATE)
PUBLIC = import_public_key(public_part(PRIVATE))
TABLES = [Base.metadata.tables[row.__tablename__] for row in (EntryRow, CheckpointRow, RelayRow)]


def find_key(kid: str) -> VerificationKey | None:
    return PUBLIC if kid == SIGNING.kid else None


def fact(number: int, **more: Any) -> dict[str, Any]:
    """A record's members."""
    return {
        "v": 1,
        "id": f"00000000-0000-7000-8000-{number:012}",
        "at": 1_800_000_000_000 + number,
        "event": "changed",
        "outcome": "done",
        "who": {"human": f"hum_{number}", "actors": [f"https://deputy.example/agents/{number}"], "client": "cli_1"},
        "consent": "con_1",
        "task": f"tsk_{number}",
        "jti": f"tok_{number}",
        **more,
    }


def written(record: dict[str, Any]) -> bytes:
    return orjson.dumps(record, option=orjson.OPT_SORT_KEYS)


@dataclass
class Paper:
    """The three tables in memory, and the file outside them."""

    file: Path
    database: Database = field(init=False)

    def __post_init__(self) -> None:
        self.database = Database(create_engine("sqlite://", poolclass=StaticPool))
        for table in TABLES:
            assert isinstance(table, Table)
            table.create(self.database.engine)

    def write(self, batches: Sequence[Sequence[dict[str, Any]]], *, outside: bool = True) -> None:
        """Go on from where it stands. `outside`: the file gets the checkpoints too."""
        head = self.head
        points = []
        with self.database.transaction() as session:
            for batch in batches:
                for facts in batch:
                    body = written(facts)
                    head = head.extended(body)
                    session.execute(insert(EntryRow), {"seq": head.seq, **columns_of(facts), "record": body, "hash": head.hash})
                if batch:
                    points.append(checkpoints.sign(head, 1_800_000_000, ISSUER, SIGNING))
                    session.add(CheckpointRow(seq=head.seq, at=1_800_000_000, jws=points[-1].jws))
            session.merge(RelayRow(id=1, holder="", until=0, seq=head.seq, hash=head.hash))
        if outside:
            checkpoints.append(self.file, points)

    @property
    def head(self) -> Head:
        with self.database.reading() as session:
            row = session.get(RelayRow, 1)
        return Head(0, GENESIS) if row is None else Head(row.seq, row.hash)

    @property
    def facts(self) -> list[dict[str, Any]]:
        return [orjson.loads(record) for (record,) in self.ask("SELECT record FROM ledger ORDER BY seq")]

    @property
    def covered(self) -> list[int]:
        """Numbers of the entries with a checkpoint."""
        return [seq for (seq,) in self.ask("SELECT seq FROM checkpoint ORDER BY seq")]

    def ask(self, sql: str, **values: Any) -> list[Any]:
        with self.database.reading() as session:
            return list(session.execute(text(sql), values))

    def do(self, sql: str, **values: Any) -> None:
        """What somebody with a shell on the database does."""
        with self.database.transaction() as session:
            session.execute(text(sql), values)

    def cut(self, keep: int) -> None:
        """Remove the tail, and put in step with that what else is in the database."""
        (hash_,) = self.ask("SELECT hash FROM ledger WHERE seq = :keep", keep=keep)[0] if keep else (GENESIS,)
        self.do("DELETE FROM ledger WHERE seq > :keep", keep=keep)
        self.do("DELETE FROM checkpoint WHERE seq > :keep", keep=keep)
        self.do("UPDATE relay SET seq = :keep, hash = :hash", keep=keep, hash=hash_)

    def compute_anew(self, first: int, facts: Sequence[dict[str, Any]], *, sign: bool) -> None:
        """Put other records in the place of those from `first` on, hashes, copies and all. `sign`: with the ledger's own key."""
        points = [seq for seq in self.covered if seq >= first]
        self.cut(first - 1)
        ends = points if sign else []
        batches: list[list[dict[str, Any]]] = [[]]
        for seq, record in enumerate(facts, first):
            batches[-1].append(record)
            if seq in ends:
                batches.append([])
        self.write(batches, outside=False)
        if not sign:
            self.do("DELETE FROM checkpoint WHERE seq >= :first", first=first)

    def verify(self, *files: Path) -> Verdict:
        return Verifier(self.database, find_key, ISSUER).verify(files)
