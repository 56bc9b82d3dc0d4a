"""Huawei's DCMI as ctypes: structs, prototypes and one way to call a function by a word.

Only for the child process (``drivers.dcmi``): the library may hang or crash. Written from the layouts that the header
of Huawei's open driver documents (hicann/driver, src/custom/include/dcmi_interface_api.h); the tests compare the sizes
with structs written in C. The two versions of the API differ in names and in how a chip is addressed: by card and
device, or (950) by one number. Imports the standard library only.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import POINTER, c_char, c_int, c_ubyte, c_uint, c_ulong, c_ulonglong
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

SONAME = "libdcmi.so"
OK = 0
NOT_SUPPORTED = -8255
NOT_EXPORTED = -99998
"""Ours: the library has no such function. Older libraries lack newer ones."""
NEVER = (NOT_SUPPORTED, NOT_EXPORTED)
"""Answers that do not change while the process lives."""

NPU_UNIT = 0
UTILIZATION_AICORE, UTILIZATION_NPU = 2, 13
FREQUENCY_AICORE = 7
ECC_DDR, ECC_HBM = 0, 2
FIRMWARE_COMPONENTS = (18, 8, 1)
"""HILINK, IMU, XLOADER: the part whose version the vendor's tool calls the firmware's depends on the chip (310P, 310B,
910B and later; 910A; 310)."""

LIST_ROOM = 64
FAULTS_ROOM = 128
PROCESSES_ROOM = 32
TEXT_ROOM = 256
"""With less than 256 bytes the library shortens the words of a fault."""
_SLACK_BYTES = 256
"""Room behind every struct: some have grown (ECC from 28 to 36 bytes) and the library is not told our size."""

_Kind = TypeVar("_Kind", bound=ctypes.Structure)


class ChipInfo(ctypes.Structure):
    """``dcmi_chip_info``; texts end with a zero byte."""

    _fields_ = (
        ("chip_type", c_char * 32),
        ("chip_name", c_char * 32),
        ("chip_version", c_char * 32),
        ("aicore_count", c_uint),
    )


class ChipInfoV2(ctypes.Structure):
    """``dcmi_chip_info_v2``: the first with the model of the module behind it."""

    _fields_ = (*ChipInfo._fields_, ("npu_name", c_char * 32))


class HbmInfo(ctypes.Structure):
    """``dcmi_hbm_info``: MB and MHz."""

    _fields_ = (
        ("memory_size", c_ulonglong),
        ("frequency", c_uint),
        ("memory_usage", c_ulonglong),
        ("temperature", c_int),
        ("bandwidth_rate", c_uint),
    )


class MemoryInfoV3(ctypes.Structure):
    """``dcmi_get_memory_info_stru``: MB; what is available counts free huge pages as well. 112 bytes on LP64, whatever
    the header's comment says."""

    _fields_ = (
        ("memory_size", c_ulonglong),
        ("memory_available", c_ulonglong),
        ("frequency", c_uint),
        ("huge_page_size", c_ulong),
        ("huge_pages_total", c_ulong),
        ("huge_pages_free", c_ulong),
        ("rate", c_uint),
        ("reserved", c_ubyte * 60),
    )


class EccInfo(ctypes.Structure):
    """``dcmi_ecc_info``. The last two fields are not in every version of the library."""

    _fields_ = (
        ("enabled", c_int),
        ("single_bit", c_uint),
        ("double_bit", c_uint),
        ("single_bit_total", c_uint),
        ("double_bit_total", c_uint),
        ("single_bit_retired_pages", c_uint),
        ("double_bit_retired_pages", c_uint),
        ("single_bit_next_retired_pages", c_uint),
        ("double_bit_next_retired_pages", c_uint),
    )


class PcieInfoAll(ctypes.Structure):
    """``dcmi_pcie_info_all``: the one with the PCI domain."""

    _fields_ = (
        ("vendor_id", c_uint),
        ("subvendor_id", c_uint),
        ("device_id", c_uint),
        ("subdevice_id", c_uint),
        ("domain", c_int),
        ("bus", c_uint),
        ("device", c_uint),
        ("function", c_uint),
        ("reserved", c_ubyte * 32),
    )


class ProcessMemory(ctypes.Structure):
    """``dcmi_proc_mem_info``: pid of the host, bytes."""

    _fields_ = (("pid", c_int), ("memory_bytes", c_ulong))


_INT, _UINT = POINTER(c_int), POINTER(c_uint)
_TEXT = ctypes.c_void_p

# What the functions take, by our word for them; those of a chip take its address before this.
_LIBRARY_ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "init": (),
    "driver_version": (_TEXT, c_uint),
    "dcmi_version": (_TEXT, c_uint),
    "card_list": (_INT, _INT, c_int),
    "device_list": (_INT, _INT, c_int),
    "chips_of_card": (c_int, _INT),
    "logic_id": (_INT, c_int, c_int),
    "phy_id_of_logic_id": (c_uint, _UINT),
}
_CHIP_ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "type": (_INT,),
    "phy_id": (_UINT,),
    "chip": (POINTER(ChipInfoV2),),
    "chip_v1": (POINTER(ChipInfo),),
    "pci": (POINTER(PcieInfoAll),),
    "health": (_UINT,),
    "error_codes": (_INT, _UINT, c_uint),
    "error_texts": (c_uint, _TEXT, c_int),
    "temperature": (_INT,),
    "power": (_INT,),
    "utilization": (c_int, _UINT),
    "frequency": (c_int, _UINT),
    "hbm": (POINTER(HbmInfo),),
    "ddr": (POINTER(MemoryInfoV3),),
    "ecc": (c_int, POINTER(EccInfo)),
    "component_version": (c_int, _TEXT, c_uint),
    "cpu_affinity": (_TEXT, _INT),
    "processes": (POINTER(ProcessMemory), _INT),
}

_API_1 = {
    "init": "dcmi_init",
    "driver_version": "dcmi_get_driver_version",
    "dcmi_version": "dcmi_get_dcmi_version",
    "card_list": "dcmi_get_card_list",
    "chips_of_card": "dcmi_get_device_num_in_card",
    "logic_id": "dcmi_get_device_logic_id",
    "phy_id_of_logic_id": "dcmi_get_device_phyid_from_logicid",
    "type": "dcmi_get_device_type",
    "chip": "dcmi_get_device_chip_info_v2",
    "chip_v1": "dcmi_get_device_chip_info",
    "pci": "dcmi_get_device_pcie_info_v2",
    "health": "dcmi_get_device_health",
    "error_codes": "dcmi_get_device_errorcode_v2",
    "error_texts": "dcmi_get_device_errorcode_string",
    "temperature": "dcmi_get_device_temperature",
    "power": "dcmi_get_device_power_info",
    "utilization": "dcmi_get_device_utilization_rate",
    "frequency": "dcmi_get_device_frequency",
    "hbm": "dcmi_get_device_hbm_info",
    "ddr": "dcmi_get_device_memory_info_v3",
    "ecc": "dcmi_get_device_ecc_info",
    "component_version": "dcmi_get_device_component_static_version",
    "cpu_affinity": "dcmi_get_affinity_cpu_info_by_device_id",
    "processes": "dcmi_get_device_resource_info",
    "topology": "dcmi_get_topo_info_by_device_id",
}
_API_2 = {
    "init": "dcmiv2_init",
    "driver_version": "dcmiv2_get_driver_version",
    "dcmi_version": "dcmiv2_get_dcmi_version",
    "device_list": "dcmiv2_get_device_list",
    "phy_id": "dcmiv2_get_chip_phy_id_by_dev_id",
    "type": "dcmiv2_get_device_type",
    "chip": "dcmiv2_get_device_chip_info",
    "pci": "dcmiv2_get_device_pcie_info",
    "health": "dcmiv2_get_device_health",
    "error_codes": "dcmiv2_get_device_error_code_list",
    "error_texts": "dcmiv2_get_device_error_info",
    "temperature": "dcmiv2_get_device_temperature",
    "power": "dcmiv2_get_device_power_info",
    "utilization": "dcmiv2_get_device_utilization_rate",
    "frequency": "dcmiv2_get_device_frequency",
    "hbm": "dcmiv2_get_device_hbm_info",
    "ecc": "dcmiv2_get_device_ecc_info",
    "component_version": "dcmiv2_get_device_component_static_version",
    "cpu_affinity": "dcmiv2_get_affinity_cpu_info_by_dev_id",
    "processes": "dcmiv2_get_device_proc_mem_info",
    "topology": "dcmiv2_get_topo_info_by_device_id",
}


class Address(NamedTuple):
    """How a chip is named: card and device, or one number with API 2."""

    card_id: int
    device_id: int | None = None

    @property
    def arguments(self) -> tuple[int, ...]:
        """As the library's functions take it."""
        return (self.card_id,) if self.device_id is None else (self.card_id, self.device_id)

    @property
    def key(self) -> str:
        """``card.device``, or the one number."""
        return ".".join(str(part) for part in self.arguments)


class Api:
    """One version (1 or 2) of the API of a loaded library. Functions are called by our words for them.

    Every call returns DCMI's code: 0 is good, ``NOT_EXPORTED`` stands for a function that is not there.
    """

    def __init__(self, library: ctypes.CDLL, version: int) -> None:
        self.version = version
        self._library = library
        self._names = _API_1 if version == 1 else _API_2
        self._functions: dict[str, Any] = {}

    def call(self, word: str, *arguments: Any) -> int:
        """A function that is not about one chip."""
        return self._call(word, _LIBRARY_ARGUMENTS[word], arguments)

    def ask(self, word: str, chip: Address, *arguments: Any) -> int:
        """A function about one chip."""
        kinds = (*(c_int for _ in chip.arguments), *_CHIP_ARGUMENTS[word])
        return self._call(word, kinds, (*chip.arguments, *arguments))

    def ask_topology(self, chip: Address, other: Address, way: Any) -> int:
        """The way between two chips, the one function about two of them."""
        addresses = (*chip.arguments, *other.arguments)
        return self._call("topology", (*(c_int for _ in addresses), _INT), (*addresses, way))

    def _call(self, word: str, kinds: Sequence[Any], arguments: Sequence[Any]) -> int:
        function = self._functions.get(word)
        if function is None:
            name = self._names.get(word)
            function = getattr(self._library, name, None) if name is not None else None
            if function is None:
                return NOT_EXPORTED
            function.restype = c_int
            function.argtypes = kinds
            self._functions[word] = function
        return int(function(*arguments))


def load(candidates: Sequence[str], preload: Sequence[str] = ()) -> tuple[ctypes.CDLL, str]:
    """The first library that can be loaded and its path; the bare name comes after the paths.

    Raises ``OSError`` with the loader's words: about the first file that exists, as those of a path that is not there
    say nothing. Libraries in ``preload`` become visible to what is loaded after them: the driver keeps ``libc_sec.so``
    in a folder where the loader does not look.
    """
    for path in preload:
        try:
            ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)
        except OSError:
            continue  # who needs it will say so
    telling: OSError | None = None
    for path in candidates:
        try:
            return ctypes.CDLL(path), path
        except OSError as error:
            if telling is None and Path(path).exists():
                telling = error
    try:
        return ctypes.CDLL(SONAME), SONAME
    except OSError as error:
        raise telling or error from None


def room_for(kind: type[_Kind]) -> _Kind:
    """An empty struct with slack behind it."""
    return kind.from_buffer(bytearray(ctypes.sizeof(kind) + _SLACK_BYTES))


def decode(raw: bytes) -> str | None:
    """A text of the library; ``None`` when it is empty."""
    return raw.split(b"\0", 1)[0].decode("utf-8", "replace").strip() or None


def bounded(count: int, room: int) -> int:
    """A count of the library, never more than there was room for."""
    return max(0, min(count, room))
