"""The support bundle: what helps to find a fault from far away, as one archive, without secrets.

Texts are blotted out three times: by what secrets look like (keys, tokens, bearer headers, passwords in addresses,
private keys, password hashes), by their names, and letter by letter by the values of this box's own secret settings and
files. Chats, prompts, databases and keys are not in it at all. Names of people, keys and machines are, and addresses:
``CONTENTS.txt`` says so.
"""

from __future__ import annotations

import io
import json
import os
import platform
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from appliance.backup.disk import own_like, sync_folder
from appliance.backup.errors import BackupTargetUnusable
from appliance.logs import redact_text
from appliance.rescue.systemd import SERVICE, Runner, run_tool
from appliance.schemas.rescue import BundleFile, SupportBundle
from appliance.settings import SECRET, Settings
from appliance.settings_store import HIDDEN, plain
from drivers.command import CommandFailed, redact

MOST_FILE_BYTES = 4 * 1024 * 1024
LOG_LINES = 5_000
_TOOL_S = 60.0
_PEM = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)
_HASH = re.compile(r"\$(argon2\w*|scrypt|2[aby]|6|5|y)\$\S+")
_SETUP_TOKEN = re.compile(r"\b[A-HJ-NP-Z2-9]{5}(?:-[A-HJ-NP-Z2-9]{5}){3}\b")
_SECRET_NAME = re.compile(r"(?i)(token|secret|passw|api_?key|credential)(?!.*_file$)")
_LEAST_SECRET = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleOrder:
    """What goes in. ``report`` is what was seen of the box (JSON), ``log`` its last lines; ``doctor`` looks at cards,
    which may take a minute; ``None`` leaves that out."""

    settings: Settings
    version: str
    report: dict[str, Any]
    log: Sequence[str]
    doctor: Callable[[], dict[str, Any]] | None = None
    run: Runner = run_tool
    now: Callable[[], datetime] = lambda: datetime.now(UTC)


class Blotter:
    """Takes secrets out of texts and counts them."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets = sorted({one for one in secrets if len(one) >= _LEAST_SECRET}, key=len, reverse=True)
        self.count = 0

    def __call__(self, text: str) -> str:
        """The text without them."""
        for pattern in (_PEM, _HASH, _SETUP_TOKEN):
            text = pattern.sub(HIDDEN, text)
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        text = redact(redact_text(text))
        self.count += text.count(HIDDEN)
        return text

    def value(self, value: Any) -> Any:
        """The same for a value of JSON, whose texts are looked at one by one so that it stays JSON."""
        if isinstance(value, dict):
            return {str(name): self._named(str(name), one) for name, one in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(one) for one in value]
        return self(value) if isinstance(value, str) else value

    def _named(self, name: str, value: Any) -> Any:
        if isinstance(value, str) and value and _SECRET_NAME.search(name):
            self.count += 1
            return HIDDEN
        return self.value(value)


def write_bundle(order: BundleOrder, folder: Path) -> SupportBundle:
    """Write ``r1box-support-HOST-TIME.tar.gz`` into ``folder``, mode 0600. Raises BackupTargetUnusable."""
    blot = Blotter(secrets_of(order.settings))
    at = order.now()
    name = f"r1box-support-{_host()}-{at.strftime('%Y%m%dT%H%M%SZ')}"
    path, part = folder / f"{name}.tar.gz", folder / f".{name}.part"
    listed: list[BundleFile] = []
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as raw:
            with tarfile.open(fileobj=raw, mode="w:gz") as archive:
                for file, about, content in _parts(order):
                    text = blot(content) if isinstance(content, str) else _json(blot.value(content))
                    data = text.encode("utf-8", "replace")[:MOST_FILE_BYTES]
                    listed.append(BundleFile(name=file, size_bytes=len(data), about=about))
                    _add(archive, f"{name}/{file}", data, at)
                _add(archive, f"{name}/CONTENTS.txt", _contents(listed, blot.count, at, order.version).encode(), at)
            raw.flush()
            os.fsync(raw.fileno())
        own_like(part, folder)
        part.replace(path)
        sync_folder(folder)
        size = path.stat().st_size
    except OSError as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise BackupTargetUnusable(path=folder, reason=(error.strerror or str(error)).lower()) from error
    return SupportBundle(path=str(path), size_bytes=size, redacted=blot.count, files=tuple(listed))


def secrets_of(settings: Settings) -> Iterator[str]:
    """The values of this box's own secrets, wherever they may turn up."""
    for name in SECRET:
        value = getattr(settings, name)
        yield from (value,) if isinstance(value, str) else tuple(value or ())
    state = settings.state_dir
    files = [state / "setup-token", settings.huggingface_token_file, settings.modelscope_token_file]
    for path in (*files, settings.attach_key_file):
        with suppress(OSError, UnicodeDecodeError):
            if path is not None:
                yield path.read_text(encoding="utf-8").strip()
    with suppress(OSError, ValueError, AttributeError):
        yield str(json.loads((state / "backup-key.json").read_bytes()).get("key", ""))


def _parts(order: BundleOrder) -> Iterator[tuple[str, str, str | dict[str, Any]]]:
    """Name, what it is, text or a value for JSON."""
    settings = order.settings
    yield "report.json", "what the box finds wrong with itself", order.report
    yield "versions.txt", "R1 Box, Python, kernel, system", _versions(order.version)
    shown = {name: HIDDEN if name in SECRET and value else value for name, value in plain(settings).items()}
    yield "settings.json", "settings in force; secret ones are hidden", shown
    yield (
        "state.txt",
        "names, sizes and owners in the state folder; no contents",
        "\n".join(_listing(settings.state_dir)),
    )
    yield "log.txt", f"the last {LOG_LINES:,} lines of the log", "\n".join(order.log)
    if order.doctor is not None:
        yield "doctor.json", "cards, drivers, versions and what is wrong with them", _tried(order.doctor)
    tools = (
        ("unit.txt", "the service as systemd has it", ["systemctl", "status", SERVICE, "--no-pager", "--lines=0"]),
        ("unit-file.txt", "the service's files", ["systemctl", "cat", SERVICE]),
        ("disks.txt", "file systems and their room", ["df", "-hT"]),
        ("memory.txt", "memory", ["free", "-m"]),
        ("addresses.txt", "network interfaces", ["ip", "-brief", "address"]),
        (
            "kernel.txt",
            "the kernel's last warnings",
            ["dmesg", "--level=emerg,alert,crit,err,warn", "--time-format=iso"],
        ),
    )
    for name, about, argv in tools:
        yield name, about, _told(order.run, argv)


def _contents(files: Sequence[BundleFile], redacted: int, at: datetime, version: str) -> str:
    lines = [
        f"Support bundle of R1 Box {version}, made {at.isoformat(timespec='seconds')}",
        "",
        *(f"{one.name:<16} {one.size_bytes:>10,} bytes  {one.about}" for one in files),
        "",
        f"{redacted:,} places that looked like secrets were blotted out (***). There are no chats, prompts, databases,",
        "keys or passwords in it. There are names: of people and keys where the log has them, of models, of this",
        "machine and its addresses. Read it before you send it: these are plain text files.",
    ]
    return "\n".join(lines) + "\n"


def _add(archive: tarfile.TarFile, name: str, data: bytes, at: datetime) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = len(data), 0o600, int(at.timestamp())
    archive.addfile(info, io.BytesIO(data))


def _told(run_it: Runner, argv: list[str]) -> str:
    try:
        result = run_it(argv, _TOOL_S)
    except CommandFailed as error:
        return f"{error.message}\n{error.result.stdout}{error.result.stderr}"
    return result.stdout


def _tried(call: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return call()
    except Exception as error:  # noqa: BLE001 - a look at broken hardware must not cost the bundle
        return {"failed": f"{type(error).__name__}: {error}"}


def _listing(folder: Path) -> Iterator[str]:
    try:
        paths = sorted(folder.rglob("*"))[:2_000]
    except OSError as error:
        yield f"{folder}: {error.strerror}"
        return
    for path in paths:
        with suppress(OSError):
            found = path.lstat()
            name = path.relative_to(folder)
            yield f"{oct(found.st_mode)[2:]:>6} {found.st_uid}:{found.st_gid} {found.st_size:>14,} {name}"


def _versions(version: str) -> str:
    lines = [f"R1 Box {version}", f"Python {platform.python_version()}", f"{platform.system()} {platform.release()}"]
    with suppress(OSError):
        lines.append(Path("/etc/os-release").read_text(encoding="utf-8"))
    return "\n".join(lines)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2, default=str)


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9-]", "-", platform.node())[:40] or "box"
