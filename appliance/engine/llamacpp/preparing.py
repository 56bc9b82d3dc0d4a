"""Compiles the structures of requests beside the steps, so that none holds a step up.

A thread of its own takes requests with a structure and passes them on to the worker's inbox when it is compiled. A
structure that takes long delays other structured requests, and nobody else.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass

from appliance.engine.llamacpp import messages as wire
from appliance.engine.llamacpp.sampler import Constraint, SamplingFailed
from appliance.engine.request import Structure, StructureKind


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request and its compiled structure, or why there is none; it may have been aborted meanwhile."""

    message: wire.Generate
    constraint: Constraint | None = None
    problem: str | None = None
    aborted: bool = False


class Preparer:
    """``take`` and ``abort`` are called by one thread; ``deliver`` is called by the compiling one."""

    def __init__(self, compile_structure: Callable[[Structure], Constraint], deliver: Callable[[Prepared], None]):
        self._compile = compile_structure
        self._deliver = deliver
        self._waiting: queue.SimpleQueue[wire.Generate] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._under_way: set[str] = set()
        self._aborted: set[str] = set()
        self._thread: threading.Thread | None = None

    def take(self, message: wire.Generate) -> None:
        """Compile the structure of a request, then deliver it."""
        with self._lock:
            self._under_way.add(message.request_id)
        self._waiting.put(message)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="structures", daemon=True)
            self._thread.start()

    def abort(self, request_id: str) -> bool:
        """Whether the request is still here; it is then delivered as aborted."""
        with self._lock:
            if request_id not in self._under_way:
                return False
            self._aborted.add(request_id)
            return True

    def _run(self) -> None:
        while True:
            message = self._waiting.get()
            with self._lock:
                aborted = message.request_id in self._aborted
            prepared = Prepared(message) if aborted else self._prepared(message)
            with self._lock:
                self._under_way.discard(message.request_id)
                if message.request_id in self._aborted:
                    self._aborted.discard(message.request_id)
                    prepared = Prepared(message, aborted=True)
                # Inside the lock: an abort that comes later must find the request in the inbox before it.
                self._deliver(prepared)

    def _prepared(self, message: wire.Generate) -> Prepared:
        assert message.structure is not None
        try:
            kind = StructureKind(message.structure.kind)
            return Prepared(message, self._compile(Structure(kind=kind, text=message.structure.text)))
        except (SamplingFailed, ValueError) as error:
            return Prepared(message, problem=f"the answer's structure cannot be used: {error}")
