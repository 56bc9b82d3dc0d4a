"""Facts from a real store and real disks; engines that died are remembered, first loads that failed are not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from appliance.box_facts import FactsReader
from appliance.engine.base import EngineState, EngineStatus
from models.importer import import_gguf
from models.model_store import ModelStore
from tests.appliance.health.test_checks import WELL, found
from tests.appliance.hosts import HostBox
from tests.e2e.box import TINY_R1


async def test_the_box_as_it_is(tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "m")
    model = import_gguf(store, TINY_R1).model
    box = HostBox()
    now = datetime.now(UTC)
    facts = FactsReader(
        telemetry=lambda: WELL.telemetry, models=box.host, offload=box.prover, findings=lambda: WELL.findings,
        store=store, state_dir=tmp_path, now=lambda: now,
    )  # fmt: skip
    read = await facts()
    assert (read.damaged, [disk.name for disk in read.disks]) == ({}, ["state"])
    assert read.disks[0].total_bytes > read.disks[0].free_bytes > 0
    assert read.newest_import_at is not None
    assert abs(read.newest_import_at - now) < timedelta(minutes=5)
    assert await facts.verify(model.id) is None
    data = bytearray(model.path.read_bytes())
    data[-100] ^= 0xFF
    model.path.chmod(0o644)
    model.path.write_bytes(data)
    assert await facts.verify(model.id)
    assert list((await facts()).damaged) == [model.id]
    store.remove(model.id, force=True)
    assert (await facts()).damaged == {}


async def test_deaths_are_counted_and_failed_first_loads_are_not(tmp_path: Path) -> None:
    box, moments = HostBox(), iter(range(100))
    facts = FactsReader(
        telemetry=lambda: WELL.telemetry, models=box.host, offload=box.prover, findings=lambda: (),
        store=ModelStore(tmp_path / "m"), state_dir=tmp_path, now=lambda: WELL.now + timedelta(seconds=next(moments)),
    )  # fmt: skip

    def note(state: EngineState, restarts: int = 0) -> None:
        facts.note(EngineStatus(state=state, model_id="m", restarts=restarts))

    for _ in range(3):
        note(EngineState.STARTING)
        note(EngineState.FAILED)
    assert (await facts()).restarts == {}
    note(EngineState.READY)
    note(EngineState.FAILED)
    note(EngineState.STARTING, 1)
    note(EngineState.FAILED, 1)
    note(EngineState.STARTING, 2)
    note(EngineState.READY, 2)
    assert len((await facts()).restarts["m"]) == 2
    note(EngineState.FAILED, 2)
    keys = {problem.key for problem in found(await facts())}
    assert "engine_crash_loop@m" in keys
