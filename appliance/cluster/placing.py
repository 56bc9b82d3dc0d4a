"""From a model in the store to what each box of a cluster starts: the leader plans for all, the others keep to it."""

from __future__ import annotations

import math
from collections.abc import Mapping

from appliance.cluster.authority import BoxFiles, leader_name
from appliance.cluster.book import ClusterRecord
from appliance.cluster.errors import BoxesDiffer, BoxesMissing
from appliance.cluster.facts import snapshot_of
from appliance.cluster.leader_client import url_of
from appliance.cluster.wire import BoxHardware, Part
from appliance.engine.external.completions import VllmCompletions
from appliance.engine.external.launch import Endpoint
from appliance.engine.external.server_factory import ServerSpec
from appliance.engine.installed import big_engines
from appliance.engine.serve_order import Node, ServeOrder
from appliance.model_setup import ModelSetup
from appliance.server_setup import installation, served_folder, wanted_engines
from appliance.settings import Settings
from appliance.system.names import interface_of
from drivers.types import HardwareSnapshot
from models.catalogue import load_catalogue
from models.fit_boxes import BoxesPlan, OneOfBoxes, fit_boxes
from models.fit_folder import FolderFacts
from models.import_safetensors import HubModel
from models.machine import Room, read_machine
from models.stored_folder import read_stored, stored_folder
from models.types import EngineName, FitPlan, InstalledModel, KvType, MemoryEstimate

_GIB = 1024**3


def leader_setup(
    installed: InstalledModel,
    snapshot: HardwareSnapshot,
    settings: Settings,
    record: ClusterRecord,
    hardware: Mapping[str, BoxHardware],
) -> tuple[ModelSetup, BoxesPlan, dict[str, Part]]:
    """The plan over all boxes: the leader's own set-up, and the others' parts by name. ``snapshot`` is the leader's,
    ``hardware`` the others' by box. Reads headers; blocks for some milliseconds.

    Raises BoxesMissing (one has not said what it has), BoxesDiffer, and what ``fit_boxes`` raises.
    """
    others = [member.name for member in record.members]
    absent = [name for name in others if name not in hardware]
    if absent:
        raise BoxesMissing(reason=f"Nothing was heard yet of {', '.join(absent)}.")
    if not others:
        raise BoxesMissing(reason="No other box belongs to the cluster.")
    found = read_stored(installed)
    own = OneOfBoxes(record.name, snapshot, wanted_engines(settings))
    boxes = [own, *(_one(name, hardware[name]) for name in others)]
    plan = fit_boxes(
        FolderFacts(installed, found.shape), load_catalogue(), boxes, settings.seats, settings.context_tokens
    )
    engine = plan.plan.engine
    _check_versions(
        engine, {record.name: engine_versions(settings), **{name: hardware[name].engines for name in others}}
    )
    parts = {name: _part(plan, rank, record.own_address) for rank, name in enumerate(record.boxes)}
    local = _visible(plan.plan, snapshot)
    setup = _setup(installed, found, settings, local, parts[record.name], record)
    return setup, plan, {name: part for name, part in parts.items() if name != record.name}


def member_setup(
    installed: InstalledModel, snapshot: HardwareSnapshot, settings: Settings, record: ClusterRecord, part: Part
) -> ModelSetup:
    """This box's part as the leader planned it. Reads headers; blocks for some milliseconds. Raises BoxesMissing when
    the box does not have what the plan reckons with."""
    found = read_stored(installed)
    rooms = _rooms(snapshot, part.devices)
    plan = FitPlan(
        variant=installed.variant or installed.name,
        quantization=part.quantization,
        engine=EngineName(part.engine),
        devices=tuple(room.name for room in rooms) if part.devices else (),
        seats=part.seats,
        context_tokens=part.context_tokens,
        kv_type=KvType.F16,
        flash_attention=True,
        ubatch_tokens=part.batch_tokens,
        gpu_layers=found.shape.layers + 1 if part.devices else 0,
        tensor_split=(),
        memory=tuple(
            MemoryEstimate(
                device=room.name,
                weights_bytes=part.weights_bytes,
                kv_bytes=part.cache_bytes,
                compute_bytes=part.work_bytes,
                reserve_bytes=0,
                available_bytes=room.available_bytes,
            )
            for room in rooms
        ),
        file_bytes=installed.size_bytes,
        tensor_parallel=part.tensor_parallel,
        data_parallel=part.data_parallel,
    )
    return _setup(installed, found, settings, _visible(plan, snapshot), part, record)


def leader_endpoint(record: ClusterRecord, files: BoxFiles, model: str) -> Endpoint:
    """Where the others ask the model: the leader's port for boxes."""
    return Endpoint(
        url=f"{url_of(record.address, record.port)}/engine",
        model=model,
        dialect=VllmCompletions(),
        ca_file=files.authority,
        own_certificate=files.certificate,
        own_key=files.key,
        server_name=leader_name(record.id),
    )


def _setup(
    installed: InstalledModel,
    found: HubModel,
    settings: Settings,
    local: tuple[FitPlan, tuple[str, ...]],
    part: Part,
    record: ClusterRecord,
) -> ModelSetup:
    plan, visible = local
    order = ServeOrder(
        name=installed.id,
        folder=stored_folder(installed),
        plan=plan,
        quantization=plan.quantization,
        architecture=installed.architecture,
        visible=visible,
        half=part.half,
        is_mixture=installed.architecture.startswith("deepseek"),
        chat_template=found.chat_template,
        cache_gib=max(1, math.ceil(part.cache_bytes / _GIB)) if not part.devices else 1,
        node=Node(
            rank=part.rank,
            nodes=part.nodes,
            address=record.own_address,
            interface=interface_of(record.own_address),
            master_address=part.master_address,
            master_port=0,
            pipeline_parallel=part.pipeline_parallel,
        ),
    )
    card = "CANN" if plan.engine is EngineName.VLLM_ASCEND else "CUDA"
    spec = ServerSpec(
        engine=plan.engine,
        order=order,
        installation=installation(settings),
        backends=tuple(f"{card}{number}" for number in range(len(plan.devices))) or ("CPU",),
        weights_bytes=plan.file_bytes,
    )
    why = f"{plan.engine} serves it over {part.nodes} boxes of the cluster {record.id}; rank {part.rank} is here."
    return ModelSetup(installed, plan, spec, served_folder(installed, found), why)


def engine_versions(settings: Settings) -> dict[str, str]:
    """The big engines that may serve here, by name; an empty version where nothing says it. Blocks on files."""
    found = {one.name: one.version or "" for one in big_engines(settings.engine_python, settings.ascend_root)}
    return {engine.value: found.get(engine, "") for engine in wanted_engines(settings)}


def _part(plan: BoxesPlan, rank: int, master: str) -> Part:
    fit, layout, line = plan.plan, plan.layout, plan.plan.memory[0]
    return Part(
        rank=rank,
        nodes=layout.boxes,
        engine=fit.engine.value,
        tensor_parallel=layout.tensor,
        data_parallel=layout.data,
        pipeline_parallel=layout.pipeline,
        devices=layout.per_box,
        seats=fit.seats,
        context_tokens=fit.context_tokens,
        batch_tokens=fit.ubatch_tokens,
        quantization=fit.quantization,
        half=plan.half,
        master_address=master,
        weights_bytes=line.weights_bytes,
        cache_bytes=line.kv_bytes,
        work_bytes=line.compute_bytes,
    )


def _one(name: str, hardware: BoxHardware) -> OneOfBoxes:
    known = {one.value for one in EngineName}
    engines = frozenset(EngineName(one) for one in hardware.engines if one in known)
    return OneOfBoxes(name, snapshot_of(hardware), engines)


def _check_versions(engine: EngineName, engines: Mapping[str, Mapping[str, str]]) -> None:
    """Ranks of two versions do not understand each other. Raises BoxesDiffer."""
    versions = {name: one.get(engine.value, "") for name, one in engines.items()}
    if len({version for version in versions.values() if version}) > 1:
        listed = ", ".join(f"{name} {version or 'unknown'}" for name, version in versions.items())
        raise BoxesDiffer(reason=f"their {engine} is not of one version ({listed})")


def _visible(plan: FitPlan, snapshot: HardwareSnapshot) -> tuple[FitPlan, tuple[str, ...]]:
    """What the vendor's variable is to show the engine."""
    by_key = {device.key: device for device in snapshot.devices}
    words = [by_key[key].selector or by_key[key].index for key in plan.devices]
    return plan, () if None in words else tuple(str(word) for word in words)


def _rooms(snapshot: HardwareSnapshot, count: int) -> list[Room]:
    machine = read_machine(snapshot)
    if not count:
        if machine.host is None:
            raise BoxesMissing(reason="How much memory this box has is not known.")
        return [machine.host]
    for group in machine.groups:
        if len(group.rooms) >= count:
            return sorted(group.rooms, key=lambda room: room.index)[:count]
    raise BoxesMissing(reason=f"The cluster's plan wants {count} cards of one kind in this box, which has fewer.")
