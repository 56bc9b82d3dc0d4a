"""Which processor this is and how much of it this process may use, from files below a root.

x86 kernels print a ``model name``; ARM kernels print only numbers (implementer and part), which are looked up here.
The table holds server parts that accelerator boxes are built from; numbers: Arm's MIDR_EL1 register values as listed
in the Linux kernel's ``arch/arm64/include/asm/cputype.h`` and util-linux's ``lscpu-arm.c``.
"""

from __future__ import annotations

from pathlib import Path

_ARM_MAKERS: dict[int, str] = {
    0x41: "Arm",
    0x43: "Cavium",
    0x46: "Fujitsu",
    0x48: "HiSilicon",
    0x4E: "NVIDIA",
    0x51: "Qualcomm",
    0x6D: "Microsoft",
    0x70: "Phytium",
    0xC0: "Ampere",
}
_ARM_PARTS: dict[tuple[int, int], str] = {
    (0x41, 0xD03): "Cortex-A53",
    (0x41, 0xD05): "Cortex-A55",
    (0x41, 0xD08): "Cortex-A72",
    (0x41, 0xD0B): "Cortex-A76",
    (0x41, 0xD0C): "Neoverse-N1",
    (0x41, 0xD40): "Neoverse-V1",
    (0x41, 0xD42): "Cortex-A78AE",
    (0x41, 0xD49): "Neoverse-N2",
    (0x41, 0xD4F): "Neoverse-V2",
    (0x41, 0xD83): "Neoverse-V3AE",
    (0x41, 0xD84): "Neoverse-V3",
    (0x41, 0xD85): "Cortex-X925",
    (0x41, 0xD87): "Cortex-A725",
    (0x41, 0xD8E): "Neoverse-N3",
    (0x43, 0x0AF): "ThunderX2",
    (0x46, 0x001): "A64FX",
    (0x48, 0xD01): "Kunpeng 920 (TaiShan v110)",
    (0x48, 0xD02): "Kunpeng 920 (TaiShan v120)",
    (0x4E, 0x004): "Carmel",
    (0x70, 0x662): "FTC662",
    (0x70, 0x663): "FTC663",
    (0x70, 0x664): "FTC664",
    (0x70, 0x862): "FTC862",
    (0xC0, 0xAC3): "Ampere-1",
    (0xC0, 0xAC4): "Ampere-1A",
}


def cpu_model(root: Path = Path("/")) -> str | None:
    """Name of the processor, ``None`` when ``/proc/cpuinfo`` tells none. Several kinds of cores are joined by " + ".

    An ARM part outside the table is given by its numbers, never by a guess.
    """
    try:
        text = (root / "proc/cpuinfo").read_text("utf-8", "replace")
    except OSError:
        return None
    arm: dict[str, None] = {}
    implementer: int | None = None
    for line in text.splitlines():
        name, _, value = (part.strip() for part in line.partition(":"))
        # LoongArch writes "Model Name"; old ARM kernels put "Processor" or a useless "model name : ARMv8 ..." there.
        if name.lower() == "model name" and value and not value.startswith("ARMv"):
            return " ".join(value.split())
        if name == "CPU implementer":
            implementer = _hex(value)
        elif name == "CPU part" and implementer is not None and (part := _hex(value)) is not None:
            arm[_arm_name(implementer, part)] = None
    return " + ".join(arm) or None


def physical_cores(cpus: frozenset[int], root: Path = Path("/")) -> int | None:
    """How many physical cores the given logical CPUs belong to; ``None`` when the topology cannot be read.

    Hardware threads of one core share the same list of siblings; core ids alone repeat across dies and packages.
    """
    cores: set[str] = set()
    for cpu in cpus:
        folder = root / f"sys/devices/system/cpu/cpu{cpu}/topology"
        siblings = _read(folder / "core_cpus_list") or _read(folder / "thread_siblings_list")
        if not siblings:
            return None
        cores.add(siblings)
    return len(cores) or None


def _arm_name(implementer: int, part: int) -> str:
    maker = _ARM_MAKERS.get(implementer)
    name = _ARM_PARTS.get((implementer, part))
    if name is not None:
        return f"{maker} {name}"
    return f"{maker or f'ARM implementer 0x{implementer:02x}'} part 0x{part:03x}"


def _hex(text: str) -> int | None:
    try:
        return int(text, 16)
    except ValueError:
        return None


def _read(path: Path) -> str | None:
    try:
        return path.read_text("ascii", "replace").strip()
    except OSError:
        return None
