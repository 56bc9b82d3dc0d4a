"""What a change of the network is refused for, and what may go wrong with one."""

from __future__ import annotations

from appliance.errors import AppError


class NetworkInvalid(AppError):
    """Base of what is wrong with a change itself; ``param`` names its field."""

    http_status = 400

    def __init__(self, *, param: str, **details: object) -> None:
        super().__init__(param=param, **details)


class InterfaceUnknown(NetworkInvalid):
    """There is no such interface, or it is the machine's own."""

    code = "network_interface_unknown"
    template = "This machine has no network card '{name}'. It has: {known}."
    hint_template = "r1box network show lists them."


class InterfaceNeeded(NetworkInvalid):
    """Several interfaces, and the change does not say which."""

    code = "network_interface_needed"
    template = "There are several network cards: {known}. The change must say which one."
    hint_template = "Name one, for example: --interface {first}"


class InterfaceUnmanaged(NetworkInvalid):
    """Neither systemd-networkd nor NetworkManager keeps the interface."""

    code = "network_interface_unmanaged"
    template = "Nobody keeps the settings of {name}: neither systemd-networkd nor NetworkManager manages it."
    hint_template = (
        "Change it where it is set up (ifupdown, a script), or hand it over: systemctl enable --now systemd-networkd"
    )


class AddressInvalid(NetworkInvalid):
    """No address with a prefix, or one that no machine can have."""

    code = "network_address_invalid"
    template = "'{value}' cannot be this machine's address: {reason}."
    hint_template = "Give address and prefix length, such as 10.0.4.17/24."


class AddressTaken(NetworkInvalid):
    """Another machine, or another card of this one, has the address."""

    code = "network_address_taken"
    http_status = 409
    template = "The address {value} is taken: {holder} answers for it."
    hint_template = "Choose another one, or take it from that machine first."


class GatewayOutside(NetworkInvalid):
    """The gateway cannot be reached from the address."""

    code = "network_gateway_outside"
    template = "The gateway {value} cannot be reached: {reason}."
    hint_template = "The router's address lies in the network of the box: here {networks}."


class ServerInvalid(NetworkInvalid):
    """A name server that is no number, or a time server that is no name."""

    code = "network_server_invalid"
    template = "'{value}' is no {what}."
    hint_template = "{advice}"


class HostnameInvalid(NetworkInvalid):
    """Not a host name by RFC 1123."""

    code = "network_hostname_invalid"
    template = "'{value}' cannot be a host name: {reason}."
    hint_template = "Letters, digits and hyphens, such as r1box-ward3; a domain after a dot is allowed."


class ValueInvalid(NetworkInvalid):
    """A name that cannot be one of its kind."""

    code = "network_value_invalid"
    template = "'{value}' is no {what}."
    hint_template = "Give a name such as {example}."


class ModeConflict(NetworkInvalid):
    """Parts of the change do not go together."""

    code = "network_mode_conflict"
    template = "{problem}"
    hint_template = "{advice}"


class NothingChanges(NetworkInvalid):
    """Everything is so already."""

    code = "network_unchanged"
    http_status = 409
    template = "Nothing would change: the machine is set up so already."


class TimeServiceUnknown(NetworkInvalid):
    """Time servers are set for a service that is not there."""

    code = "network_time_service_unknown"
    http_status = 409
    template = "Time servers cannot be set here: systemd-timesyncd does not run ({found})."
    hint_template = "systemctl enable --now systemd-timesyncd, or set them where the other service has them."


class TrialRunning(AppError):
    """One at a time."""

    code = "network_trial_running"
    http_status = 409
    template = "Another change is on trial for {seconds_left} more seconds."
    hint_template = "Confirm it or take it back first: r1box network confirm, r1box network rollback"


class NoTrial(AppError):
    """Nothing to confirm or to take back."""

    code = "network_no_trial"
    http_status = 409
    template = "No change is on trial{ended}."
    hint_template = "Try it again and confirm it in time: r1box network set"


class ChangeFailed(AppError):
    """The system did not take the change; everything was put back."""

    code = "network_change_failed"
    http_status = 502
    template = "The change was taken back, because it could not be put in force: {reason}"
    hint_template = "{advice}"


class NotKept(AppError):
    """A confirmed change could not be made to stay."""

    code = "network_not_kept"
    http_status = 502
    template = "The change is in force and could not be kept: {reason}"
    hint_template = "Mend that and confirm again; it is taken back when its time is over."


class HelperMissing(AppError):
    """The part that may change the system is not there."""

    code = "system_helper_missing"
    http_status = 503
    template = "Nothing can be changed from here: the helper that runs as root does not answer at {path}: {reason}."
    hint_template = "systemctl start r1box-system.socket starts it; make install puts it in place."


class HelperRefused(AppError):
    """What the helper refused, in its own words and with its code."""

    template = "{problem}"

    def __init__(self, *, code: str, problem: str, hint: str | None, status: int, param: str | None = None) -> None:
        super().__init__(problem=problem, param=param)
        self.code = code  # type: ignore[misc]
        self.http_status = status  # type: ignore[misc]
        self.hint = hint
