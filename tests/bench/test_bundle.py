"""Bundles beside ``cp`` and ``sha256sum`` of the same file on the same disk: create, verify, import, resume.

Prints figures and decides nothing. Run alone on the machine with ``make bench``; every figure is the median of
``ROUNDS`` runs, ours and the tools' in turn.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from models.bundle.create import CreateOptions, Sticks, create_bundle, source_of_path
from models.bundle.layout import StickSpace
from models.bundle.receive import ImportOptions, import_bundle
from models.bundle.secret_key import generate
from models.bundle.trust import TrustedKeys
from models.bundle.verify import verify_bundle
from models.model_store import ModelStore
from tests.models.store_samples import write_dense

pytestmark = pytest.mark.bench

ROUNDS = 3
SIZE_BYTES = 1024**3
MIB = 1024**2


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


def test_throughput_beside_cp_and_sha256sum(tmp_path: Path) -> None:
    source = write_dense(tmp_path / "Big-R1.gguf", SIZE_BYTES)
    key = generate()
    public = key.public("bench")
    keys = TrustedKeys((("bench.pub", public),))
    sticks = Sticks((StickSpace(),), lambda _number, _manifest: tmp_path / "bundle")
    payload, copy, again = tmp_path / "bundle" / "model.gguf", tmp_path / "copy", tmp_path / "again"
    times: dict[str, list[float]] = {}

    def measure(name: str, work: Callable[[], object]) -> None:
        run("sync")
        times.setdefault(name, []).append(seconds(work))

    for number in range(ROUNDS):
        shutil.rmtree(tmp_path / "bundle", ignore_errors=True)
        measure("create", lambda: create_bundle(source_of_path(source), sticks, options=CreateOptions(key=key)))
        measure("verify", lambda: verify_bundle([tmp_path / "bundle"], keys))
        store = ModelStore(tmp_path / f"store-{number}")
        measure("import", lambda store=store: import_bundle(store, [tmp_path / "bundle"], keys))  # type: ignore[misc]
        shutil.rmtree(store.root)
        measure("sha256sum", lambda: run("sha256sum", str(payload)))
        copy.unlink(missing_ok=True)
        measure("cp", lambda: run("cp", str(payload), str(copy)))
        again.unlink(missing_ok=True)

        def cp_and_sha256sum() -> None:
            run("cp", str(payload), str(again))
            run("sha256sum", str(again))

        measure("cp + sha256sum", cp_and_sha256sum)
        again.unlink()
        measure("cp + sync + sha256sum", lambda: (cp_and_sha256sum(), run("sync", str(again))))
    table = Table(title=f"{SIZE_BYTES // MIB} MiB", title_justify="left", box=None, header_style="bold")
    for column in ("what", "median", "MiB/s"):
        table.add_column(column, justify="left" if column == "what" else "right")
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, median in medians.items():
        table.add_row(name, f"{median:.2f} s", f"{SIZE_BYTES / MIB / median:.0f}")
    Console(width=100).print(table)
    print(f"import / (cp + sha256sum): {medians['import'] / medians['cp + sha256sum']:.2f}x")
    print(f"verify / sha256sum: {medians['verify'] / medians['sha256sum']:.2f}x")


def test_what_a_resumed_import_reads(tmp_path: Path) -> None:
    """Stopped at half: the second attempt copies the other half alone."""
    source = write_dense(tmp_path / "Big-R1.gguf", SIZE_BYTES // 2)
    sticks = Sticks((StickSpace(),), lambda _number, _manifest: tmp_path / "bundle")
    create_bundle(source_of_path(source), sticks)
    store = ModelStore(tmp_path / "store")
    options = ImportOptions(allow_unsigned=True, commit_bytes=64 * MIB)

    class Stop(Exception):
        pass

    def half(done: int, total: int) -> None:
        if done > total // 2:
            raise Stop

    with pytest.raises(Stop):
        import_bundle(store, [tmp_path / "bundle"], TrustedKeys(), half, options)
    seen: list[int] = []
    took = seconds(
        lambda: import_bundle(
            store, [tmp_path / "bundle"], TrustedKeys(), lambda done, _total: seen.append(done), options
        )
    )
    print(f"resumed at {seen[0] / MIB:.0f} of {SIZE_BYTES // 2 / MIB:.0f} MiB, finished after {took:.2f} s more")
