"""The answer file: everything an installation needs to know, as TOML with ``schema = 1``.

The wizard writes one and a seed stick carries one; both go through ``read_answers``. Unknown keys are refused, with the
nearest known one named, because an installer that ignores a mistyped key wipes the wrong disk politely.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
import tomllib
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from installer.errors import InstallRefused

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_USER = re.compile(r"[a-z][a-z0-9_-]{0,30}")
_HASH = re.compile(r"\$(?:y|6|5|2b|gy|7)\$[^:\s]{8,}")
_SSH_KEY = re.compile(
    r"(?:ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(?:256|384|521)|sk-\S+@openssh\.com) [A-Za-z0-9+/=]+( .*)?"
)
_TAKEN = re.compile(
    r"root|daemon|bin|sys|adm|tty|disk|lp|mail|news|uucp|man|proxy|kmem|dialout|fax|voice|cdrom|floppy|tape|sudo|audio|dip"
    r"|www-data|backup|operator|list|irc|src|shadow|utmp|video|sasl|plugdev|staff|games|users|nogroup|nobody|sync|gnats"
    r"|input|render|kvm|sgx|crontab|messagebus|sshd|rauc|uuidd|r1box|systemd-.*"
)
"""Users and groups of Debian's base system and of the image: a person's group of that name cannot be made."""
LARGEST_FILE_BYTES = 1 << 20


def _hostname(value: str) -> str:
    if len(value) > 253 or not all(_LABEL.fullmatch(label) for label in value.split(".")):
        raise ValueError("must be a host name of lower-case letters, digits and hyphens, such as r1box-ward3")
    return value


def _user(value: str) -> str:
    if not _USER.fullmatch(value) or _TAKEN.fullmatch(value):
        raise ValueError("must be a user name of lower-case letters and digits that the system has not taken itself")
    return value


def _hash(value: str) -> str:
    if not _HASH.fullmatch(value):
        raise ValueError("must be a hash as mkpasswd prints it, beginning with $y$ or $6$, never the password itself")
    return value


def _ssh_key(value: str) -> str:
    if not _SSH_KEY.fullmatch(value):
        raise ValueError("must be one line of a public key file, such as ssh-ed25519 AAAA... name")
    return value


def _inside_stick(value: str) -> str:
    path = PurePosixPath(value)
    if not value or path.is_absolute() or ".." in path.parts or any(not c.isprintable() for c in value):
        raise ValueError("must be a path inside the stick, without a leading / and without ..")
    return value


def _timezone(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+){0,2}", value):
        raise ValueError("must be a name such as Europe/Berlin, Asia/Shanghai or UTC")
    return value


def _interface(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.*?-]{1,15}|([0-9a-f]{2}:){5}[0-9a-f]{2}", value):
        raise ValueError("must be an interface such as eno1 or en*, or a hardware address such as 02:00:00:00:00:01")
    return value


def _address(value: str) -> str:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        raise ValueError("must be an IPv4 or IPv6 address") from None
    return value


def _network_address(value: str) -> str:
    try:
        if "/" not in value:
            raise ValueError
        ipaddress.ip_interface(value)
    except ValueError:
        raise ValueError("must be an address with its prefix length, such as 192.0.2.10/24") from None
    return value


def _server(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9.:-]{1,253}", value):
        raise ValueError("must be a host name or an address")
    return value


def _model_id(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,199}", value):
        raise ValueError("must be a model's id as r1box models list prints it")
    return value


def _listen(value: str) -> str:
    return value if value == "localhost" else _address(value)


def _one_word(value: str) -> str:
    if not value.strip() or not value.isprintable():
        raise ValueError("must not be empty")
    return value


Text = Annotated[str, AfterValidator(_one_word)]


class Section(BaseModel):
    """Base of the file and its tables."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class DiskMatch(Section):
    """Which disk. Every key given must fit, and exactly one disk of the machine may fit all."""

    serial: Text | None = Field(None, description="Serial number as lsblk prints it; * and ? stand for any characters.")
    wwn: Text | None = Field(None, description="World-wide name; * and ? as above.")
    model: Text | None = Field(None, description="Model; * and ? as above.")
    path: Text | None = Field(None, description="Device path, such as /dev/nvme0n1. Paths change between starts.")
    transport: Literal["nvme", "sata", "sas", "usb", "virtio", "mmc"] | None = Field(
        None, description="How the disk is connected."
    )
    min_gib: int | None = Field(None, ge=1, description="Least size in GiB.")
    max_gib: int | None = Field(None, ge=1, description="Largest size in GiB.")

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("needs at least one key, such as serial")
        if self.min_gib is not None and self.max_gib is not None and self.min_gib > self.max_gib:
            raise ValueError("min_gib is above max_gib")
        return self


class Disk(Section):
    """The disk that becomes the box's."""

    match: DiskMatch = Field(description="Which disk.")
    wipe: Text | None = Field(
        None,
        description="The serial number of the disk: typing it is the consent to wipe it (the wwn for a disk without "
        "serial). The kernel argument r1box.wipe=SERIAL says the same.",
    )
    keep_models: bool = Field(
        False, description="Keep the partition of the models of an earlier installation with the same layout."
    )
    slot_gib: int = Field(8, ge=1, le=64, description="Size of each of the two system partitions in GiB.")
    state_gib: int = Field(16, ge=1, le=1024, description="Size of the partition of state in GiB.")


class System(Section):
    """The machine itself."""

    hostname: Annotated[str, AfterValidator(_hostname)] = Field("r1box", description="Name of the machine.")
    timezone: Annotated[str, AfterValidator(_timezone)] = Field("UTC", description="Time zone.")
    language: Literal["en", "zh"] = Field("en", description="Language of the console.")


class Admin(Section):
    """The person who may log in at the machine and by ssh."""

    name: Annotated[str, AfterValidator(_user)] = Field("admin", description="User name.")
    password_hash: Annotated[str, AfterValidator(_hash)] | None = Field(
        None, description="Hash of the password, from mkpasswd -m yescrypt."
    )
    ssh_keys: list[Annotated[str, AfterValidator(_ssh_key)]] = Field(
        default_factory=list, description="Public keys that may log in by ssh."
    )

    @model_validator(mode="after")
    def _can_log_in(self) -> Self:
        if self.password_hash is None and not self.ssh_keys:
            raise ValueError("needs password_hash or ssh_keys: without either nobody could log in")
        return self


class Network(Section):
    """The network card that the box is reached by."""

    mode: Literal["dhcp", "static", "none"] = Field("dhcp", description="Where the address comes from.")
    interface: Annotated[str, AfterValidator(_interface)] = Field(
        "en*", description="Interface by name (* and ? allowed) or hardware address."
    )
    address: Annotated[str, AfterValidator(_network_address)] | None = Field(
        None, description="static: address with prefix length."
    )
    gateway: Annotated[str, AfterValidator(_address)] | None = Field(None, description="static: the router.")
    dns: list[Annotated[str, AfterValidator(_address)]] = Field(default_factory=list, description="Name servers.")
    ntp: list[Annotated[str, AfterValidator(_server)]] = Field(default_factory=list, description="Time servers.")

    @model_validator(mode="after")
    def _belongs_together(self) -> Self:
        if self.mode == "static" and self.address is None:
            raise ValueError('mode = "static" needs address')
        if self.mode != "static" and (self.address or self.gateway):
            raise ValueError(f'address and gateway belong to mode = "static", not to "{self.mode}"')
        if self.address and self.gateway:
            net = ipaddress.ip_interface(self.address).network
            router = ipaddress.ip_address(self.gateway)
            if router not in net and not router.is_link_local:
                raise ValueError(f"gateway {self.gateway} is not in the network {net}")
        return self


class Accelerator(Section):
    """The cards' driver, firmware and CANN or CUDA, from a signed bundle on the stick."""

    vendor: Literal["auto", "none", "nvidia", "ascend"] = Field(
        "auto", description="auto takes the vendor of the cards found; none installs nothing."
    )
    bundle: Annotated[str, AfterValidator(_inside_stick)] | None = Field(
        None, description="Folder of the drivers bundle on the stick. Without it: what the system image carries."
    )


class Models(Section):
    """Models that come from the stick."""

    bundles: list[Annotated[str, AfterValidator(_inside_stick)]] = Field(
        default_factory=list, description="Folders of signed model bundles on the stick, imported in this order."
    )
    default: Annotated[str, AfterValidator(_model_id)] | None = Field(
        None, description="Id of the model that is served. Without it: what fits best."
    )


class Service(Section):
    """How the box serves."""

    host: Annotated[str, AfterValidator(_listen)] = Field("0.0.0.0", description="Address to listen on.")  # noqa: S104
    port: int = Field(8080, ge=1, le=65535, description="TCP port.")
    tls: Literal["local", "off"] = Field(
        "local", description="local is HTTPS with the box's own authority, off is plain HTTP."
    )


class Finish(Section):
    """What the machine does at the end."""

    on_success: Literal["reboot", "poweroff", "stay"] = Field(
        "reboot", description="After an installation that went well."
    )
    on_error: Literal["reboot", "poweroff", "stay"] = Field(
        "stay", description="After one that failed; stay leaves the message on the screen."
    )


class Answers(Section):
    """The whole file."""

    schema_: Literal[1] = Field(alias="schema", description="Version of this form: 1.")
    disk: Disk = Field(description="The disk that becomes the box's.")
    admin: Admin = Field(description="Who may log in.")
    system: System = Field(default_factory=lambda: System.model_validate({}), description="The machine itself.")
    network: Network = Field(default_factory=lambda: Network.model_validate({}), description="How it is reached.")
    accelerator: Accelerator = Field(
        default_factory=lambda: Accelerator.model_validate({}), description="The cards' software."
    )
    models: Models = Field(default_factory=lambda: Models.model_validate({}), description="Models from the stick.")
    service: Service = Field(default_factory=lambda: Service.model_validate({}), description="How the box serves.")
    finish: Finish = Field(default_factory=lambda: Finish.model_validate({}), description="What follows the end.")


def read_answers(path: Path) -> Answers:
    """The answers in this file. Raises InstallRefused (``answers_unreadable``, ``answers_invalid``)."""
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE_BYTES + 1)
    except OSError as error:
        raise InstallRefused(
            "answers_unreadable", f"{path} cannot be read: {error.strerror}.", "Check its name and the stick."
        ) from error
    if len(content) > LARGEST_FILE_BYTES:
        raise InstallRefused("answers_unreadable", f"{path} is too large for an answer file.", "Check its name.")
    try:
        return parse_answers(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise InstallRefused(
            "answers_unreadable", f"{path} is no text in UTF-8 (byte {error.start}).", "Save it as UTF-8."
        ) from error


def parse_answers(text: str) -> Answers:
    """The answers in this text; every problem of the file is told at once, one a line."""
    try:
        values = tomllib.loads(text.removeprefix("\ufeff"))
    except tomllib.TOMLDecodeError as error:
        raise InstallRefused(
            "answers_unreadable", f"The answer file is no TOML: {error}.", "Mend that line."
        ) from error
    try:
        return Answers.model_validate(values)
    except ValidationError as error:
        problems = tuple(_problem(item["loc"], item["type"], item["msg"]) for item in error.errors(include_input=False))
        raise InstallRefused(
            "answers_invalid",
            "The answer file cannot be used:\n" + "\n".join(f"  {line}" for line in problems),
            "docs/install.md lists every key.",
            problems=problems,
        ) from error


def _problem(location: tuple[int | str, ...], kind: str, message: str) -> str:
    where = ".".join(str(part) for part in location) or "the file"
    if kind == "extra_forbidden":
        known = known_keys(location[:-1])
        near = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.5)
        return f"{where}: unknown key" + (f', did you mean "{near[0]}"?' if near else f"; known: {', '.join(known)}")
    if kind == "missing":
        return f"{where}: is missing"
    message = message.removeprefix("Value error, ").removeprefix("Input ")
    return f"{where}: {message[:1].lower()}{message[1:]}"


def known_keys(location: tuple[int | str, ...]) -> list[str]:
    """The keys of the table at this place of the file."""
    model: type[BaseModel] = Answers
    for part in location:
        field = model.model_fields.get(str(part))
        if field is None or not isinstance(field.annotation, type) or not issubclass(field.annotation, BaseModel):
            return []
        model = field.annotation
    return [field.alias or name for name, field in model.model_fields.items()]
