"""What a reader would see as flicker while an answer streams, counted in the page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Page

WATCH = """() => {
  const seen = (window.watched = { rebuilt: 0, shifted: 0, back: 0, longestTask: 0, longestFrame: 0, frames: 0 });
  // A block that is taken away while another stands behind it was finished before.
  new MutationObserver((records) => {
    for (const record of records)
      for (const node of record.removedNodes)
        if (node instanceof Element && record.target.matches?.('.answer > .markdown') && record.nextSibling !== null)
          seen.rebuilt += 1;
  }).observe(document.body, { childList: true, subtree: true });
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) if (!entry.hadRecentInput) seen.shifted += entry.value;
  }).observe({ type: 'layout-shift' });
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) seen.longestTask = Math.max(seen.longestTask, entry.duration);
  }).observe({ type: 'longtask' });
  let before = performance.now();
  let top = 0;
  const frame = (now) => {
    seen.frames += 1;
    seen.longestFrame = Math.max(seen.longestFrame, now - before);
    before = now;
    const place = document.querySelector('.scroll')?.scrollTop ?? 0;
    if (place < top - 1) seen.back += 1;
    top = place;
    requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
}"""


def watch(page: Page) -> None:
    """Begin to count."""
    page.evaluate(WATCH)


def watched(page: Page) -> dict[str, Any]:
    """``rebuilt`` finished blocks, ``shifted`` (layout shift score), ``back``: frames in which the place jumped up,
    ``longestTask`` and ``longestFrame`` in milliseconds, ``frames``."""
    return dict(page.evaluate("window.watched"))
