"""One chip as DCMI tells it: every call, its units and what to do when it fails. Part of the child ``drivers.dcmi``.

A call that fails leaves its fields out and its number under the word of these fields in ``errors``; the words are
listed in ``drivers.dcmi_reading.DcmiChip``. Imports the standard library and our binding only.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import byref, c_int, c_uint
from typing import Any

from drivers.dcmi_binding import (
    ECC_DDR,
    ECC_HBM,
    FAULTS_ROOM,
    FIRMWARE_COMPONENTS,
    FREQUENCY_AICORE,
    NEVER,
    NOT_SUPPORTED,
    NPU_UNIT,
    OK,
    PROCESSES_ROOM,
    TEXT_ROOM,
    UTILIZATION_AICORE,
    UTILIZATION_NPU,
    Address,
    Api,
    ChipInfo,
    ChipInfoV2,
    EccInfo,
    HbmInfo,
    MemoryInfoV3,
    PcieInfoAll,
    ProcessMemory,
    bounded,
    decode,
    room_for,
)

_VIRTUAL_FUNCTION_FLAG = 1 << 9
"""Set in a rate that a virtual function cannot tell (DCMI_VF_FLAG_BIT); the rest of the number means nothing then."""
_AFFINITY_ROOM = 4096
"""The library writes up to 32 bytes; the header gives no limit."""

Record = dict[str, Any]


class Chip:
    """One chip and what is known of the calls it does not have: those are not repeated."""

    def __init__(self, api: Api, address: Address, refused: int | None = None) -> None:
        """``refused`` is the code with which the library would not count the chips of this card."""
        self.address = address
        self.error = refused
        self._api = api
        self._refused = refused
        self._listing_errors: dict[str, int] = {} if refused is None else {"chips": refused}
        self._errors: dict[str, int] = {}
        self._never: dict[str, int] = {}

    def is_npu(self) -> bool:
        """Whether this is a chip that computes, not the card's controller (MCU) or CPU."""
        if self._refused is not None:
            return True
        unit = self._integer("type", "type")
        self._listing_errors = dict(self._errors)
        return unit is None or unit == NPU_UNIT

    def read(self, earlier: Sequence[Chip]) -> Record:
        """Everything the chip tells, with the way to each of the chips in ``earlier``."""
        record: Record = {"kind": "chip", **self._begin()}
        if self.error is None:
            record |= self._identity()
            record["health"] = self._health()
        record["error"], record["errors"] = self.error, self._errors
        if self.error is not None:
            return record
        record |= self._running()
        record |= self._memory()
        record |= self._faults()
        record["ecc_hbm"] = self._ecc("ecc_hbm", ECC_HBM)
        record["ecc_ddr"] = self._ecc("ecc_ddr", ECC_DDR)
        record["cpu_affinity"] = self._affinity()
        record["processes"] = self._processes()
        record["topology"] = self._topology(earlier)
        record["firmware_version"] = self._firmware()
        return record

    def sample(self) -> Record:
        """What changes. A chip that does not tell its health is not asked any more this time."""
        record = self._begin()
        if self.error is None:
            record["health"] = self._health()
        record["error"] = self.error
        if self.error is None:
            record |= self._running()
            record |= self._memory()
            record.pop("hbm_mhz", None)
        return record

    def _begin(self) -> Record:
        self.error, self._errors = self._refused, dict(self._listing_errors)
        return {"card_id": self.address.card_id, "device_id": self.address.device_id}

    def _identity(self) -> Record:
        record: Record = {"logic_id": self._logic_id(), "phy_id": None}
        if self._api.version == 2:
            record["phy_id"] = self._integer("phy_id", "phy_id", kind=c_uint)
        elif record["logic_id"] is not None:
            phy_id = c_uint()
            if self._note("phy_id", self._api.call("phy_id_of_logic_id", record["logic_id"], byref(phy_id))):
                record["phy_id"] = phy_id.value
        info = room_for(ChipInfoV2)
        if self._ask("chip", "chip", byref(info)):
            record["npu_name"] = decode(info.npu_name)
        elif self._api.version == 1:
            self._chip_v1(info)
        record["chip_type"], record["chip_name"] = decode(info.chip_type), decode(info.chip_name)
        pci = room_for(PcieInfoAll)
        if self._ask("pci", "pci", byref(pci)):
            record["pci_address"] = f"{pci.domain:04x}:{pci.bus:02x}:{pci.device:02x}.{pci.function:x}"
        return record

    def _chip_v1(self, info: ChipInfoV2) -> None:
        """Old drivers do not have the second version of the call."""
        first = room_for(ChipInfo)
        code = self._api.ask("chip_v1", self.address, byref(first))
        if code == OK:
            del self._errors["chip"]
            info.chip_type, info.chip_name = first.chip_type, first.chip_name
        elif code not in NEVER:
            self._errors["chip"] = code

    def _logic_id(self) -> int | None:
        if self._api.version == 2:
            return self.address.card_id  # the one number of API 2 is the logic id
        value = c_int()
        code = self._api.call("logic_id", byref(value), *self.address.arguments)
        return value.value if self._note("logic_id", code) else None

    def _health(self) -> int | None:
        """A chip that is gone answers everything else, if at all, after a long wait: ``error`` says to stop here."""
        value = self._integer("health", "health", kind=c_uint)
        code = self._errors.get("health")
        self.error = None if code in NEVER else code
        return value

    def _running(self) -> Record:
        return {
            "temperature_celsius": self._integer("temperature", "temperature"),
            "power_deciwatts": self._integer("power", "power"),
            "aicore_percent": self._rate("aicore", UTILIZATION_AICORE),
            "npu_percent": self._rate("npu", UTILIZATION_NPU),
            "aicore_mhz": self._integer("aicore_mhz", "frequency", FREQUENCY_AICORE, kind=c_uint),
        }

    def _rate(self, field: str, unit: int) -> int | None:
        value = self._integer(field, "utilization", unit, kind=c_uint)
        if value is not None and value & _VIRTUAL_FUNCTION_FLAG:
            self._note(field, NOT_SUPPORTED)
            return None
        return value

    def _memory(self) -> Record:
        """HBM; DDR only where there is none."""
        record: Record = {}
        hbm = room_for(HbmInfo)
        if self._ask("hbm", "hbm", byref(hbm)):
            record = {
                "hbm_total_mb": hbm.memory_size,
                "hbm_used_mb": hbm.memory_usage,
                "hbm_mhz": hbm.frequency,
            }
        if not record.get("hbm_total_mb"):
            ddr = room_for(MemoryInfoV3)
            if self._ask("ddr", "ddr", byref(ddr)):
                record |= {"ddr_total_mb": ddr.memory_size, "ddr_available_mb": ddr.memory_available}
        return record

    def _faults(self) -> Record:
        count, codes = c_int(), (c_uint * FAULTS_ROOM)()
        if not self._ask("error_codes", "error_codes", byref(count), codes, FAULTS_ROOM):
            return {}
        active = list(codes[: bounded(count.value, FAULTS_ROOM)])
        texts = {f"{code:08X}": text for code in active if (text := self._fault_text(code)) is not None}
        return {"error_codes": active, "error_texts": texts}

    def _fault_text(self, code: int) -> str | None:
        buffer = ctypes.create_string_buffer(TEXT_ROOM)
        # That one code has no words is no reason not to ask about the next: nothing is remembered here.
        answer = self._api.ask("error_texts", self.address, code, buffer, TEXT_ROOM)
        if answer != OK:
            self._errors["error_texts"] = answer
            return None
        return decode(buffer.raw)

    def _ecc(self, field: str, unit: int) -> Record | None:
        info = room_for(EccInfo)
        if not self._ask(field, "ecc", unit, byref(info)):
            return None
        names = ("single_bit", "double_bit", "single_bit_total", "double_bit_total")
        pages = ("single_bit_retired_pages", "double_bit_retired_pages")
        return {"enabled": bool(info.enabled)} | {name: getattr(info, name) for name in names + pages}

    def _affinity(self) -> str | None:
        buffer, length = ctypes.create_string_buffer(_AFFINITY_ROOM), c_int(_AFFINITY_ROOM)
        return decode(buffer.raw) if self._ask("cpu_affinity", "cpu_affinity", buffer, byref(length)) else None

    def _processes(self) -> list[Record] | None:
        found, count = (ProcessMemory * PROCESSES_ROOM)(), c_int()
        if not self._ask("processes", "processes", found, byref(count)):
            return None
        listed = found[: bounded(count.value, PROCESSES_ROOM)]
        return [{"pid": process.pid, "memory_bytes": process.memory_bytes} for process in listed]

    def _topology(self, earlier: Sequence[Chip]) -> dict[str, int]:
        ways: dict[str, int] = {}
        for other in earlier:
            if other.error is not None:
                continue
            way = c_int()
            code = self._api.ask_topology(self.address, other.address, byref(way))
            if self._note("topology", code):
                ways[other.address.key] = way.value
            elif code in NEVER:
                break
        return ways

    def _firmware(self) -> str | None:
        buffer = ctypes.create_string_buffer(TEXT_ROOM)
        first: int | None = None
        for component in FIRMWARE_COMPONENTS:
            code = self._api.ask("component_version", self.address, component, buffer, TEXT_ROOM)
            if code == OK and (version := decode(buffer.raw)) is not None:
                return version
            first = code if first is None else first
        if first:
            self._errors["firmware"] = first
        return None

    def _integer(self, field: str, word: str, *before: int, kind: type[c_int | c_uint] = c_int) -> int | None:
        value = kind()
        return int(value.value) if self._ask(field, word, *before, byref(value)) else None

    def _ask(self, field: str, word: str, *arguments: Any) -> bool:
        """Whether the call was good; its code goes under ``field`` otherwise."""
        code = self._never.get(field)
        return self._note(field, self._api.ask(word, self.address, *arguments) if code is None else code)

    def _note(self, field: str, code: int) -> bool:
        if code in NEVER:
            self._never[field] = code
        if code != OK:
            self._errors[field] = code
        return code == OK
