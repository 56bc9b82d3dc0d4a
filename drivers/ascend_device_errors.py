"""What is wrong with single Ascend cards and chips, in plain words with a fix: findings of the Ascend probe.

Findings about the way to all of them: ``drivers.ascend_errors``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from drivers.ascend_errors import SOURCE, code_name
from drivers.ascend_faults import CURRENT_SENSOR
from drivers.pci import PciFunction
from drivers.types import Device, Finding, Health, LayerState, Severity

_MAY_WORK = (
    "The card may still work: boards with the 310B often show an alarm for their current sensor alone (80E3A203)."
)
_RESET = "Read dmesg, then reset the card (npu-smi set -t reset) or power the box off and on."


def unhealthy(device: Device) -> Finding | None:
    """A finding for a device whose driver calls it other than OK, with its faults."""
    if device.health in (Health.OK, Health.UNKNOWN):
        return None
    message = f"The driver reports {device.health.value} for {device.name} ({device.key})."
    told = [one for one in device.faults if one.severity is not Severity.INFO] or list(device.faults)
    for one in told[:4]:
        message += f" Fault {one.code}" + (f": {one.meaning}" if one.meaning else ".")
    if told:
        hint = next((one.action for one in told if one.action), None) or _health_command(device)
    else:
        hint = _health_command(device)
    small = _is_current_sensor(device)
    if small:
        hint = f"{_health_command(device)} {_MAY_WORK}"
    warning = small or device.health is Health.WARNING
    severity = Severity.WARNING if warning else Severity.ERROR
    return Finding("device_unhealthy", message, hint, severity, SOURCE, device.key)


def _health_command(device: Device) -> str:
    return f"Run npu-smi info -t health -i {device.card_id}: it prints the error codes and their meaning."


def faults_while_ok(device: Device) -> Finding | None:
    """Active faults that ask for something although the driver still calls the device OK."""
    told = [one for one in device.faults if one.severity is not Severity.INFO]
    if device.health not in (Health.OK, Health.UNKNOWN) or not told:
        return None
    message = f"{device.name} ({device.key}) reports a fault: " + "; ".join(
        one.code + (f", {one.meaning.rstrip('.')}" if one.meaning else "") for one in told[:4]
    )
    grave = Severity.ERROR if any(one.severity is Severity.ERROR for one in told) else Severity.WARNING
    hint = told[0].action or _health_command(device)
    if _is_current_sensor(device):
        grave, hint = Severity.WARNING, _MAY_WORK
    return Finding("device_fault", message + ".", hint, grave, SOURCE, device.key)


def _is_current_sensor(device: Device) -> bool:
    """Whether nothing but the current sensor of a 310B is known to be wrong."""
    return (device.chip or "").startswith("310B") and {one.code for one in device.faults} <= {CURRENT_SENSOR}


def not_passed(functions: Sequence[PciFunction]) -> Finding:
    """A container sees the whole bus, and has the nodes of its own cards alone."""
    many = len(functions) > 1
    where = ", ".join(function.address for function in functions[:3]) + (", ..." if len(functions) > 3 else "")
    message = (
        f"{len(functions)} Ascend card{'s' if many else ''} on the PCI bus {'were' if many else 'was'} not passed to"
    )
    hint = "Pass the nodes of these cards to the container if it shall use them."
    return Finding("card_not_passed", f"{message} this container ({where}).", hint, Severity.INFO, SOURCE)


def card_without_answer(function: PciFunction, device: Device) -> Finding:
    """A card on the bus that neither DCMI nor npu-smi lists: both skip a chip whose health cannot be read."""
    bound = f"bound to {function.driver}" if function.driver else "bound to no driver"
    message = f"{function.label} is on the PCI bus ({bound}), but the driver does not list it."
    hint = f"The driver leaves out chips that do not answer. {_RESET}"
    return Finding("card_not_answering", message, hint, Severity.ERROR, SOURCE, device.key)


def no_chip_listed() -> Finding:
    """Nodes of a machine without the PCI bus (310B), and a driver that lists nothing."""
    message = "There are nodes of an Ascend card under /dev, but the driver lists no chip."
    return Finding("card_not_answering", message, _RESET, Severity.ERROR, SOURCE)


def chip_without_answer(device: Device, code: int, function: PciFunction | None) -> Finding:
    """A chip that the driver lists and that answers every question with an error."""
    where = (
        f"Chip {device.chip_id} of card {device.card_id}" if device.chip_id is not None else f"Card {device.card_id}"
    )
    if function is not None:
        where += f" is on the PCI bus ({function.address}, {function.vendor_id:04x}:{function.device_id:04x})"
        where += f" and {device.node} exists" if device.layers.node is LayerState.OK else ""
        where += ", but"
    message = f"{where} gives no answer ({code_name(code)})."
    return Finding("card_not_answering", message, _RESET, Severity.ERROR, SOURCE, device.key)


def chips_missing(function: PciFunction, listed: int) -> Finding:
    """A card of several chips of which the driver lists fewer."""
    message = f"{function.label} carries {function.chips} chips, but the driver lists {listed}."
    return Finding("card_not_answering", message, _RESET, Severity.ERROR, SOURCE)


def chips_uncounted(listed: int, shown: int) -> Finding:
    """npu-smi's list counts more chips than its table shows."""
    message = f"npu-smi info -l counts {listed} chips, but npu-smi info shows {shown}."
    hint = f"npu-smi leaves out chips that do not answer. {_RESET}"
    return Finding("card_not_answering", message, hint, Severity.ERROR, SOURCE)


def answer_cut(arguments: Sequence[str]) -> Finding:
    """An answer of npu-smi that does not end with the end of a line."""
    command = " ".join(("npu-smi info", *arguments))
    message = f"The answer of {command} is cut off; what its last line says is not known."
    return Finding("row_cut", message, f"Run {command} by hand.", Severity.WARNING, SOURCE)


def counts_differ(dcmi: Sequence[str], tool: Sequence[str]) -> Finding:
    """DCMI and npu-smi list different chips."""
    only_dcmi, only_tool = sorted(set(dcmi) - set(tool)), sorted(set(tool) - set(dcmi))
    parts = [f"only DCMI lists {', '.join(only_dcmi)}"] if only_dcmi else []
    parts += [f"only npu-smi lists {', '.join(only_tool)}"] if only_tool else []
    message = f"DCMI lists {len(set(dcmi))} Ascend chips and npu-smi {len(set(tool))}: {'; '.join(parts)}."
    hint = f"A chip came or went meanwhile, or does not answer. Look again; if it stays so: {_RESET}"
    return Finding("sources_disagree", message, hint, Severity.WARNING, SOURCE)


def query_failed(device: Device, errors: Mapping[str, int]) -> Finding:
    """Questions that one chip answered with an error; their fields stay unknown."""
    calls = ", ".join(f"{name}: {code_name(code)}" for name, code in sorted(errors.items()))
    message = f"{device.name} ({device.key}) could not tell everything: {calls}."
    hint = "Look again; if it stays so, read dmesg and run npu-smi info -t board by hand."
    return Finding("query_failed", message, hint, Severity.WARNING, SOURCE, device.key)


def incompatible(key: str) -> Finding:
    """npu-smi's own verdict on the driver and firmware of a card."""
    message = f"The driver says that its version and the firmware of {key} do not fit together."
    hint = "Upgrade the firmware first and then the driver to one release, and reboot."
    return Finding("firmware_incompatible", message, hint, Severity.WARNING, SOURCE, key)


def index_unknown() -> Finding:
    """Devices whose number for programs nobody tells."""
    message = "Neither DCMI nor npu-smi tells the numbers by which programs select the devices."
    hint = "Run npu-smi info -m by hand: it should list a Chip Logic ID for every chip."
    return Finding("index_unknown", message, hint, Severity.WARNING, SOURCE)
