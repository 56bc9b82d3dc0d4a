"""Child process that asks Huawei's DCMI and prints what it answers, one JSON object a line.

It runs in a fresh isolated interpreter (see ``drivers.dcmi_reading.child_argv``) and imports the standard library and
our binding only: the vendor's library may hang or crash, and then only this process is lost. Lines are printed as soon
as they are known, so that the chips before a hanging one are not lost. Nothing is judged here; errors are passed on by
number. The records and their fields are those of ``drivers.dcmi_reading``.

With ``--watch`` it prints the start record, then one sample for each line that it reads, and ends with its input, even
while a call hangs.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import queue
import sys
import threading
from collections.abc import Callable, Sequence
from ctypes import byref, c_int

from drivers.dcmi_binding import LIST_ROOM, NEVER, OK, TEXT_ROOM, Address, Api, bounded, decode, load
from drivers.dcmi_chip import Chip, Record


def initialise(library: ctypes.CDLL) -> tuple[Api | None, int]:
    """The version of the API that begins well, or the code of the one that should have."""
    codes: list[int] = []
    for version in (1, 2):
        api = Api(library, version)
        codes.append(api.call("init"))
        if codes[-1] == OK:
            return api, OK
    # "Not supported" by the version that is not for this chip says nothing; -8255 says more than "not exported".
    return None, next((code for code in codes if code not in NEVER), max(codes))


def list_chips(api: Api) -> tuple[list[Chip], int]:
    """All chips as the library lists them, or the code of the failed list."""
    count, ids = c_int(), (c_int * LIST_ROOM)()
    if api.version == 2:
        code = api.call("device_list", ids, byref(count), LIST_ROOM)
        return [Chip(api, Address(number)) for number in ids[: bounded(count.value, LIST_ROOM)]], code
    code = api.call("card_list", byref(count), ids, LIST_ROOM)
    chips: list[Chip] = []
    for card in ids[: bounded(count.value, LIST_ROOM)]:
        on_card = c_int()
        refused = api.call("chips_of_card", card, byref(on_card))
        if refused != OK:
            chips.append(Chip(api, Address(card, 0), refused))
        else:
            chips += [Chip(api, Address(card, device)) for device in range(bounded(on_card.value, LIST_ROOM))]
    return chips, code


def begin(candidates: Sequence[str], preload: Sequence[str], emit: Callable[[Record], None]) -> list[Chip] | None:
    """Load the library, initialise it and print the start record; ``None`` when it does not begin."""
    start: Record = {"kind": "start"}
    try:
        library, start["library"] = load(candidates, preload)
    except OSError as error:
        emit(start | {"missing": str(error)})
        return None
    api, code = initialise(library)
    if api is None:
        emit(start | {"error": code})
        return None
    start["api"] = api.version
    for word in ("driver_version", "dcmi_version"):
        buffer = ctypes.create_string_buffer(TEXT_ROOM)
        if api.call(word, buffer, TEXT_ROOM) == OK:
            start[word] = decode(buffer.raw)
    chips, code = list_chips(api)
    if code != OK:
        emit(start | {"error": code})
        return None
    emit(start | {"listed": [chip.address.key for chip in chips]})
    return chips


def read_all(chips: Sequence[Chip], emit: Callable[[Record], None]) -> None:
    """Ask every chip everything."""
    asked: list[Chip] = []
    for chip in chips:
        if chip.is_npu():
            emit(chip.read(asked))
            asked.append(chip)
    emit({"kind": "end"})


def listen(questions: queue.SimpleQueue[None]) -> None:
    """One question for each line of standard input. At its end the process ends at once: a call may hang for ever."""
    with contextlib.suppress(OSError):
        while data := os.read(0, 4096):
            for _ in range(data.count(b"\n")):
                questions.put(None)
    os._exit(0)


def answer(chips: Sequence[Chip], questions: queue.SimpleQueue[None], emit: Callable[[Record], None]) -> None:
    """A sample for each question, without end."""
    units: list[Chip] | None = None
    while True:
        questions.get()
        if units is None:
            units = [chip for chip in chips if chip.is_npu()]
        emit({"kind": "sample", "chips": [chip.sample() for chip in units]})


def main() -> None:
    """Print the records on the real standard output; what the library prints itself goes to standard error."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--library", action="append", default=[], help="where libdcmi.so may be; repeatable")
    parser.add_argument("--preload", action="append", default=[], help="a library that libdcmi.so needs; repeatable")
    parser.add_argument("--watch", action="store_true", help="one sample for each line of standard input")
    options = parser.parse_args()
    records = os.dup(1)
    os.dup2(2, 1)

    def emit(record: Record) -> None:
        os.write(records, json.dumps(record).encode() + b"\n")

    questions: queue.SimpleQueue[None] = queue.SimpleQueue()
    if options.watch:
        threading.Thread(target=listen, args=(questions,), daemon=True).start()
    chips = begin(options.library, options.preload, emit)
    if chips is not None and options.watch:
        answer(chips, questions, emit)
    elif chips is not None:
        read_all(chips, emit)


if __name__ == "__main__":
    main()
    sys.stderr.flush()
    os._exit(0)  # what the library registered to run at exit may hang or crash as well
