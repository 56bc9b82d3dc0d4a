"""Two network namespaces as two boxes: a link between them that can be cut, and a network of each to the outside."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from typing import Self


def _ip(*arguments: str, check: bool = True) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, timeout=30, check=False)
    assert not check or done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr} (this test needs root)"


@dataclass(frozen=True)
class Namespace:
    """``address`` is the box's on the link, ``outside`` the one that clients reach it by."""

    name: str
    address: str
    outside: str

    @property
    def command(self) -> tuple[str, ...]:
        """What runs a program in it."""
        return ("ip", "netns", "exec", self.name)


class TwoBoxes:
    """Made and taken away by ``with``."""

    def __init__(self) -> None:
        mark = os.getpid() % 10_000
        self.boxes = tuple(Namespace(f"r1box-{mark}-{n}", f"10.213.0.{n}", f"10.214.{n}.2") for n in (1, 2))
        self._outside = tuple(f"r1o{n}-{mark}" for n in (1, 2))

    def __enter__(self) -> Self:
        try:
            self._make()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for box in self.boxes:
            _ip("netns", "del", box.name, check=False)
        for name in self._outside:
            _ip("link", "del", name, check=False)

    def _make(self) -> None:
        first, second = self.boxes
        for box, outside, number in zip(self.boxes, self._outside, (1, 2), strict=True):
            _ip("netns", "add", box.name)
            _ip("-n", box.name, "link", "set", "lo", "up")
            _ip("link", "add", outside, "type", "veth", "peer", "name", "office0", "netns", box.name)
            _ip("address", "add", f"10.214.{number}.1/24", "dev", outside)
            _ip("link", "set", outside, "up")
            _ip("-n", box.name, "address", "add", f"{box.outside}/24", "dev", "office0")
            _ip("-n", box.name, "link", "set", "office0", "up")
        _ip("-n", first.name, "link", "add", "link0", "type", "veth", "peer", "name", "link0", "netns", second.name)
        for box in self.boxes:
            _ip("-n", box.name, "address", "add", f"{box.address}/24", "dev", "link0")
            _ip("-n", box.name, "link", "set", "link0", "up")

    def cut(self) -> None:
        """Nothing comes through the link any more, and nobody is told."""
        _ip("-n", self.boxes[1].name, "link", "set", "link0", "down")

    def mend(self) -> None:
        _ip("-n", self.boxes[1].name, "link", "set", "link0", "up")
