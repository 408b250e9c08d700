"""`make bench`: Deputy beside node oidc-provider and a plain Authlib server, in turn, on one core, in the same run."""

import argparse
import json
import os
import shutil
import signal
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from contestants import (
    CC,
    CONNECTIONS,
    EXTRA,
    INTROSPECT,
    OPERATIONS,
    REVOKE,
    XCHG,
    AuthlibSQL,
    Contestant,
    Deputy,
    DeputyWithPolicies,
    Missing,
    OidcProvider,
)
from load import drive
from machine import Cores, cpu_seconds, describe, machine_seconds, own_seconds, resident_mib

MARKS = {
    CC: {"oidc-provider": 0.35, "Authlib + SQL": 2.0},
    XCHG: {"oidc-provider": 0.25, "Authlib + SQL": 2.0},
    INTROSPECT: {"oidc-provider": 0.22, "Authlib + SQL": 2.0},
    REVOKE: {"Authlib + SQL": 1.0},
}
"""At least so many times the other's requests for the same CPU time."""

KINDS = (Deputy, OidcProvider, AuthlibSQL)

KEPT = 0.75
"""Of its rate without policies, by CPU per request, Deputy keeps at least so much with ten."""

NOISY = 0.10
"""A run in which others took more than this share of a core is marked."""

FIRST_GUESS = 2000
"""Requests a second, before a server has been seen."""


def main() -> int:
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    signal.signal(signal.SIGALRM, lambda *_: sys.exit(f"the bench ran into its bound of {options.limit} s"))
    signal.alarm(options.limit)
    for name in [name for name in os.environ if name.startswith("DEPUTY_")]:
        del os.environ[name]
    cores = Cores()
    work = Path(tempfile.mkdtemp(prefix="bench"))
    contestants: list[Contestant] = []
    try:
        for kind in options.kinds:
            folder = work / str(len(contestants))
            folder.mkdir()
            contestant = kind(folder, cores, options.auth)
            contestants.append(contestant)
            try:
                contestant.start()
                contestant.check()
            except Missing as reason:
                print(f"{contestant.name} is left out: {reason}")
                contestants.remove(contestant)
                contestant.stop()
        return _bench(options, contestants, cores)
    except (RuntimeError, AssertionError) as trouble:
        print(f"The bench stopped: {trouble}", file=sys.stderr)
        for contestant in contestants:
            contestant.say_how_it_is()
        return 1
    finally:
        signal.alarm(0)
        for contestant in reversed(contestants):
            contestant.stop()
        shutil.rmtree(work, ignore_errors=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="length of one run (3)")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each server and operation, in turn (5)")
    parser.add_argument(
        "--only", action="append", default=[], metavar="WORD", help="operations or servers whose name has this word; may repeat"
    )
    parser.add_argument(
        "--auth", choices=("secret", "key"), default="secret", help="client_secret_basic or private_key_jwt, for all (secret)"
    )
    parser.add_argument("--policies", action="store_true", help="Deputy beside itself with ten policies in force, instead of the others")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every run to a file")
    parser.add_argument("--limit", type=int, default=1800, help="seconds after which the bench gives up (1800)")
    options = parser.parse_args()
    words = [word.lower() for word in options.only]
    names = [*OPERATIONS, *EXTRA, *(kind.name for kind in KINDS)]
    if unknown := [word for word in words if not any(word in name.lower() for name in names)]:
        parser.error(f"nothing is called {', '.join(unknown)}; there are {', '.join(names)}")
    options.operations = [name for name in (*OPERATIONS, *EXTRA) if any(word in name for word in words)] or list(OPERATIONS)
    options.kinds = [kind for kind in KINDS if any(word in kind.name.lower() for word in words)] or list(KINDS)
    if options.policies:
        options.kinds = [Deputy, DeputyWithPolicies]
        options.operations = [name for name in options.operations if name in {XCHG, INTROSPECT}] or [XCHG]
    return options


def _bench(options: argparse.Namespace, contestants: list[Contestant], cores: Cores) -> int:
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    auth = {"secret": "client_secret_basic", "key": "private_key_jwt"}[options.auth]
    print(f"{now} · {describe()}\n{cores} · {CONNECTIONS} connections, ES256, {auth}")
    for contestant in contestants:
        print(f"  {contestant.name}: {contestant.version()}")
    facts = {"date": now, "machine": describe(), "cores": str(cores), "auth": auth, "seconds": options.seconds}
    rows: list[dict[str, object]] = []
    wrong = 0
    for operation in options.operations:
        runs = _measure(operation, options, contestants, cores)
        for contestant in contestants:
            rows.append(_row(operation, contestant, runs[contestant.name]))
            wrong += sum(sum(run["wrong"].values()) for run in runs[contestant.name])
        _print(operation, rows, runs)
    for contestant in contestants:
        print(f"{contestant.name}: {resident_mib(contestant.serving)} MiB resident")
        if isinstance(contestant, Deputy):
            facts["records"] = _print_records(contestant)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        versions = {contestant.name: contestant.version() for contestant in contestants}
        options.json.write_text(json.dumps({**facts, "versions": versions, "rows": rows}, indent=1) + "\n")
    if wrong:
        print(f"{wrong} wrong answers: the figures above are not to be trusted.")
    return 1 if wrong else 0


def _measure(operation: str, options: argparse.Namespace, contestants: list[Contestant], cores: Cores) -> dict[str, list[dict]]:
    """Warm each up, then A B C A B C …, so that a machine that changes its speed changes it for all."""
    runs: dict[str, list[dict]] = {contestant.name: [] for contestant in contestants}
    rates = {}
    for contestant in contestants:
        warm_up = _run(operation, contestant, cores, FIRST_GUESS, min(options.seconds, 2.0))
        rates[contestant.name] = warm_up["rate"]
    for _ in range(options.rounds):
        for contestant in contestants:
            enough = int(rates[contestant.name] * options.seconds * 1.4)
            run = _run(operation, contestant, cores, enough, options.seconds)
            rates[contestant.name] = max(rates[contestant.name], run["rate"])
            runs[contestant.name].append(run)
    return runs


def _run(operation: str, contestant: Contestant, cores: Cores, count: int, seconds: float) -> dict:
    load = contestant.load(operation, count)
    beside = contestant.beside
    before, others = cpu_seconds(contestant.serving), {name: cpu_seconds(pid) for name, pid in beside.items()}
    busy, stolen, own, began = *machine_seconds(), own_seconds(), time.monotonic()
    outcome = drive(contestant.port, load, seconds=seconds, connections=CONNECTIONS, core=cores.other)
    took = time.monotonic() - began
    served = cpu_seconds(contestant.serving) - before
    busy_after, stolen_after = machine_seconds()
    helped = {name: cpu_seconds(pid) - others[name] for name, pid in beside.items()}
    foreign = busy_after - busy - served - sum(helped.values()) - (own_seconds() - own)
    answers = max(1, outcome.answers)
    return {
        "answers": outcome.answers,
        "rate": outcome.answers / outcome.seconds if outcome.seconds else 0.0,
        "cpu": served / answers * 1e6,
        "beside": {name: value / answers * 1e6 for name, value in helped.items()},
        "p50": outcome.percentile(0.5) * 1e3,
        "p99": outcome.percentile(0.99) * 1e3,
        "wrong": outcome.wrong,
        "busy": served / took,
        "foreign": max(0.0, foreign) / took,
        "stolen": (stolen_after - stolen) / took,
    }


def _row(operation: str, contestant: Contestant, runs: list[dict]) -> dict[str, object]:
    def median(name: str) -> float:
        return statistics.median(run[name] for run in runs)

    return {
        "operation": operation,
        "server": contestant.name,
        "rate": round(median("rate"), 1),
        "cpu_us": round(median("cpu"), 1),
        "cpu_us_range": [round(min(run["cpu"] for run in runs), 1), round(max(run["cpu"] for run in runs), 1)],
        "p50_ms": round(median("p50"), 2),
        "p99_ms": round(median("p99"), 2),
        "beside_us": {name: round(statistics.median(run["beside"][name] for run in runs), 1) for name in contestant.beside},
        "answers": sum(run["answers"] for run in runs),
        "wrong": sum(sum(run["wrong"].values()) for run in runs),
        "runs": runs,
    }


def _print(operation: str, rows: list[dict], runs: dict[str, list[dict]]) -> None:
    head = f"\n{operation:<20}{'req/s':>9}{'CPU µs':>9}{'min–max':>14}{'p50 ms':>9}{'p99 ms':>9}   beside it, CPU µs"
    print(head)
    for row in rows:
        if row["operation"] != operation:
            continue
        low, high = row["cpu_us_range"]
        beside = ", ".join(f"{name} {value:.0f}" for name, value in row["beside_us"].items())
        noise = [run for run in runs[row["server"]] if run["foreign"] > NOISY or run["stolen"] > NOISY]
        notes = [beside] if beside else []
        if noise:
            notes.append(f"{len(noise)} of {len(runs[row['server']])} runs disturbed by others")
        if row["wrong"]:
            notes.append(f"WRONG ANSWERS {_sum(runs[row['server']])}")
        print(
            f"  {row['server']:<18}{row['rate']:>9.0f}{row['cpu_us']:>9.0f}{f'{low:.0f}–{high:.0f}':>14}"
            f"{row['p50_ms']:>9.1f}{row['p99_ms']:>9.1f}   {' · '.join(notes)}"
        )
    ours = runs.get(Deputy.name)
    if not ours:
        return
    for name, mark in {**dict.fromkeys(runs), **MARKS.get(operation, {})}.items():
        if name == Deputy.name or name not in runs:
            continue
        ratios = [theirs["cpu"] / mine["cpu"] for mine, theirs in zip(ours, runs[name], strict=True) if mine["cpu"]]
        ratio = statistics.median(ratios)
        if name == DeputyWithPolicies.name:
            kept = 1 / ratio
            print(f"  = {kept:.2f} of its rate is kept with ten policies, mark {KEPT:g}: {'met' if kept >= KEPT else 'SHORT'}")
            continue
        verdict = "no mark" if mark is None else f"mark {mark:g}: {'met' if ratio >= mark else 'SHORT'}"
        print(f"  = {ratio:.2f} of {name} by CPU per request [{min(ratios):.2f}–{max(ratios):.2f}], {verdict}")


def _sum(runs: list[dict]) -> dict[str, int]:
    total: dict[str, int] = {}
    for run in runs:
        for why, count in run["wrong"].items():
            total[why] = total.get(why, 0) + count
    return total


def _print_records(deputy: Deputy) -> dict[str, int]:
    records = deputy.records()
    print("Deputy's ledger: " + ", ".join(f"{count} {event}" for event, count in sorted(records.items(), key=lambda kv: -kv[1])[:4]))
    return records


if __name__ == "__main__":
    sys.exit(main())
