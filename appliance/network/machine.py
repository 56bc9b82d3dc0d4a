"""What belongs to the whole machine: time servers, host name, time zone, clock and the console's keyboard."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from datetime import datetime

from appliance.network.files import put_file, remove_file
from appliance.network.tools import Tools

TRIAL_NTP = "/run/systemd/timesyncd.conf.d/91-r1box-trial.conf"
KEPT_NTP = "/etc/systemd/timesyncd.conf.d/90-r1box.conf"
"""Drop-ins are read in the order of their names, wherever they lie: the trial's comes last."""
_HOSTS = "/etc/hosts"
_OWN_LINE = re.compile(r"127\.0\.1\.1\s")
_HEAD = "# Written by R1 Box: r1box network set\n"


class Machine:
    """Every method blocks and raises CommandFailed or OSError. ``set_hostname`` sets the kernel's name for itself."""

    def __init__(self, tools: Tools, set_hostname: Callable[[str], None] = socket.sethostname) -> None:
        self._tools = tools
        self._set_hostname = set_hostname

    def try_ntp(self, servers: tuple[str, ...]) -> None:
        """Ask these time servers until the next start."""
        put_file(self._tools.at(TRIAL_NTP), _ntp_text(servers))
        self._restart_timesync()

    def take_back_ntp(self) -> None:
        """Ask those before. Idempotent."""
        remove_file(self._tools.at(TRIAL_NTP))
        self._restart_timesync()

    def keep_ntp(self, servers: tuple[str, ...]) -> None:
        """What is asked now stays. The service need not be told."""
        put_file(self._tools.at(KEPT_NTP), _ntp_text(servers))
        remove_file(self._tools.at(TRIAL_NTP))

    def try_hostname(self, name: str) -> None:
        """The kernel's name alone: it is forgotten when the machine starts again."""
        self._set_hostname(name)

    def keep_hostname(self, name: str) -> None:
        """For good, and in /etc/hosts, where programs look the machine's own name up."""
        self._tools.do("hostnamectl", "set-hostname", name)
        path = self._tools.at(_HOSTS)
        try:
            lines = path.read_text("utf-8").splitlines()
        except OSError:
            return
        short = name.partition(".")[0]
        own = f"127.0.1.1 {name}" if short == name else f"127.0.1.1 {name} {short}"
        if any(_OWN_LINE.match(line) for line in lines):
            put_file(path, "".join(f"{own if _OWN_LINE.match(line) else line}\n" for line in lines))

    def set_zone(self, zone: str) -> None:
        """The time zone."""
        self._tools.do("timedatectl", "set-timezone", zone)

    def set_clock(self, at: datetime) -> None:
        """The clock, by hand; refused by the system while a service keeps it."""
        self._tools.do("timedatectl", "set-time", at.strftime("%Y-%m-%d %H:%M:%S UTC"))

    def set_keymap(self, keymap: str) -> None:
        """The keyboard of the machine's own screen."""
        self._tools.do("localectl", "set-keymap", keymap)

    def _restart_timesync(self) -> None:
        self._tools.do("systemctl", "try-restart", "systemd-timesyncd.service")


def _ntp_text(servers: tuple[str, ...]) -> str:
    """timesyncd.conf(5): an empty assignment forgets what files before said; without one the built-in servers count."""
    lines = ["NTP=", f"NTP={' '.join(servers)}"] if servers else ["NTP="]
    return _HEAD + "[Time]\n" + "".join(f"{line}\n" for line in lines)
