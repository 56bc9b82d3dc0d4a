"""The network for operators: reads it here, and has the helper change it. The daemon's part, without any rights."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

from pydantic import ValidationError

from appliance.network.errors import HelperMissing, HelperRefused, ValueInvalid
from appliance.network.helper_client import SYSTEM_SOCKET, HelperClient
from appliance.network.messages import Confirm, RollBack, SetKeymap, SetZone, Status, Try
from appliance.network.networkd import Networkd
from appliance.network.networkmanager import NetworkManager
from appliance.network.read import Reader
from appliance.network.tools import Tools
from appliance.network.trial import Backend, preview
from appliance.schemas.network import Network, NetworkChange, Preview, TrialStatus

__all__ = ["SYSTEM_SOCKET", "NetworkService"]


class NetworkService:
    """All methods ask other processes, in threads. One change at a time."""

    def __init__(
        self, helper: Path = SYSTEM_SOCKET, *, tools: Tools | None = None, reader: Reader | None = None
    ) -> None:
        self._tools = tools or Tools()
        self._reader = reader or Reader(self._tools, socket.gethostname)
        self._backends: dict[str, Backend] = {
            "networkd": Networkd(self._tools),
            "networkmanager": NetworkManager(self._tools),
        }
        self._helper = HelperClient(helper)
        self._changing = asyncio.Lock()

    async def show(self) -> Network:
        """What is, what is on trial, and whether it can be changed from here."""
        # While it puts a change in force the helper answers nobody else.
        return await asyncio.to_thread(self._reader.read if self._changing.locked() else self.read)

    async def preview(self, change: NetworkChange) -> Preview:
        """What a change would do. Raises NetworkInvalid."""
        return await asyncio.to_thread(preview, change, self._reader, self._backends)

    async def begin(self, change: NetworkChange, seconds: int) -> TrialStatus:
        """Put a change on trial. Raises NetworkInvalid, HelperMissing, HelperRefused."""
        async with self._changing:
            # Refused here already: the helper is not asked what cannot be.
            await self.preview(change)
            return await asyncio.to_thread(self._helper.ask, Try(change=change, seconds=seconds))

    async def confirm(self, trial_id: str) -> TrialStatus:
        """Keep it. Raises HelperMissing, HelperRefused."""
        return await asyncio.to_thread(self._helper.ask, Confirm(id=trial_id))

    async def roll_back(self) -> TrialStatus:
        """Take it back. Raises HelperMissing, HelperRefused."""
        return await asyncio.to_thread(self._helper.ask, RollBack())

    async def set_zone(self, zone: str) -> TrialStatus:
        """The time zone, at once. Raises ValueInvalid, HelperMissing, HelperRefused."""
        try:
            request = SetZone(zone=zone)
        except ValidationError as error:
            raise ValueInvalid(param="value", value=zone[:64], what="time zone", example="Asia/Shanghai") from error
        return await asyncio.to_thread(self._helper.ask, request)

    async def set_keymap(self, keymap: str) -> TrialStatus:
        """The keyboard of the machine's screen, at once. Raises ValueInvalid, HelperMissing, HelperRefused."""
        try:
            request = SetKeymap(keymap=keymap)
        except ValidationError as error:
            raise ValueInvalid(param="value", value=keymap[:64], what="keyboard", example="de-latin1") from error
        return await asyncio.to_thread(self._helper.ask, request)

    def read(self) -> Network:
        """``show`` for whoever may block."""
        found = self._reader.read()
        try:
            status = self._helper.ask(Status())
        except (HelperMissing, HelperRefused) as error:
            return found.model_copy(update={"problem": error.message, "hint": error.hint})
        return found.model_copy(update={"trial": status.trial, "last": status.last})
