"""The tree of blocks alone: names, files of earlier runs, writes that are overtaken."""

from __future__ import annotations

from appliance.engine.llamacpp.tier_blocks import TierLimits, block_key, block_tokens_for
from appliance.engine.llamacpp.tier_index import TierIndex
from tests.appliance.engine.llamacpp.unified_cache import BYTES_PER_TOKEN


def test_files_of_an_earlier_run_that_are_of_no_use_are_deleted() -> None:
    """Those without what they follow, those beyond the bound, and all of them where nothing is kept any more."""
    index = TierIndex(TierLimits(1000, 400, 32, BYTES_PER_TOKEN))
    chain: list[tuple[bytes, list[int]]] = []
    parent = b""
    for number in range(3):
        tokens = [number] * 32
        chain.append((parent, tokens))
        parent = block_key(parent, tokens)
    assert index.find_on_disk(*chain[0], 320) is not None
    assert index.find_on_disk(*chain[1], 320) is None
    assert index.find_on_disk(*chain[2], 320) is None
    assert index.take_work().delete == [block_key(*one) for one in chain[1:]]
    assert (len(index), index.disk_bytes) == (1, 320)
    index.clear()
    assert index.take_work().delete == [block_key(*chain[0])]
    assert index.find_on_disk(*chain[0], 320) is None
    assert index.take_work().delete == [block_key(*chain[0])]
    index.check_integrity()


def test_a_block_that_is_kept_again_while_its_first_write_is_under_way_is_written_anew() -> None:
    index = TierIndex(TierLimits(1000, 1000, 32, BYTES_PER_TOKEN))
    tokens = [1] * 32
    index.keep(b"", tokens, 320)
    (first,) = index.all()
    assert index.write(first)
    index.discard(first)
    index.keep(b"", tokens, 320)
    (again,) = index.all()
    assert not index.write(again)
    index.check_integrity()
    # The file of the first one has bytes that were no good.
    index.take_work()
    index.was_written(again.key, good=True)
    assert (again.on_disk, index.disk_bytes, index.take_work().delete) == (False, 0, [again.key])
    assert index.write(again)
    index.was_written(again.key, good=True)
    assert (again.on_disk, index.disk_bytes, index.memory_bytes) == (True, 320, 320)
    index.check_integrity()


def test_blocks_are_no_longer_than_16_mib() -> None:
    assert [block_tokens_for(size) for size in (0, 2048, 57_344, 131_072, 2**20)] == [256, 256, 256, 128, 32]
