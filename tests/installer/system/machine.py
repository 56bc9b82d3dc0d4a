"""A machine below a folder: an os-release, and programs of systemd's names that note how they were called.

The stand-ins are executables found through PATH, so the code under test starts real processes. `enabled` and `active`
are files that `systemctl` makes and removes as the real one changes its state.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

DEBIAN = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\nVERSION_ID="12"\n'

_SYSTEMCTL = """#!/bin/sh
state={state}
case "$*" in
  --version) echo "systemd {version} ({version}.1-1)"; echo "+PAM"; exit 0 ;;
  "is-enabled "*) test -e $state/enabled; exit ;;
  "is-active "*) test -e $state/active; exit ;;
esac
echo "systemctl $*" >> $state/calls
if [ -e $state/fails ]; then echo "Failed to do it: Access denied" >&2; exit 1; fi
case "$*" in
  enable*) touch $state/enabled ;;
  disable*) rm -f $state/enabled ;;
  *start*) touch $state/active ;;
  stop*) rm -f $state/active ;;
esac
"""
_NOTING = """#!/bin/sh
echo "{name} $*" >> {state}/calls
"""


@dataclass(frozen=True, slots=True)
class Machine:
    root: Path
    tools: Path
    state: Path

    @property
    def environ(self) -> dict[str, str]:
        return {"PATH": f"{self.tools}:/usr/bin:/bin", "LC_ALL": "C.UTF-8"}

    def calls(self) -> list[str]:
        """Commands that would have changed the system, in order, with paths as the machine sees them."""
        try:
            lines = (self.state / "calls").read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []
        return [line.replace(str(self.root), "") for line in lines]

    def forget(self) -> None:
        (self.state / "calls").unlink(missing_ok=True)


def make_machine(folder: Path, version: int = 252, booted: bool = True, os_release: str = DEBIAN) -> Machine:
    root, tools, state = folder / "root", folder / "tools", folder / "state"
    for path in (root / "etc", root / "dev", tools, state):
        path.mkdir(parents=True)
    (root / "etc" / "os-release").write_text(os_release, encoding="utf-8")
    if booted:
        (root / "run" / "systemd" / "system").mkdir(parents=True)
    _program(tools / "systemctl", _SYSTEMCTL.format(state=state, version=version))
    for name in ("systemd-sysusers", "userdel"):
        _program(tools / name, _NOTING.format(name=name, state=state))
    made = f"mkdir -p {root}/etc/r1box {root}/var/lib/r1box/models\n"
    _program(tools / "systemd-tmpfiles", _NOTING.format(name="systemd-tmpfiles", state=state) + made)
    return Machine(root, tools, state)


def _program(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
