/**
 * Parser of a server-sent event stream (WHATWG HTML, section 9.2.6), fed with text as it arrives.
 *
 * Pure: no fetch, no DOM. Comments are handed on because the box sends queue positions in them.
 *
 * @typedef {{type: 'data', data: string} | {type: 'comment', text: string}} SseEvent
 */

/** A line longer than this is no stream of ours; better an error than a full memory. */
const MAX_LINE_CHARS = 8 * 1024 * 1024;

export class SseParser {
  #buffer = '';
  /** @type {string[]} */
  #data = [];
  #first = true;
  #skipLineFeed = false;

  /**
   * Takes the next piece of text, cut anywhere, and returns the events that are complete with it.
   * @param {string} text
   * @returns {SseEvent[]}
   */
  feed(text) {
    if (text === '') return [];
    if (this.#first) {
      this.#first = false;
      if (text.startsWith('\uFEFF')) text = text.slice(1);
    }
    if (this.#skipLineFeed && text.startsWith('\n')) text = text.slice(1); // the second half of a CR LF cut in two
    this.#skipLineFeed = false;
    this.#buffer += text;

    /** @type {SseEvent[]} */
    const events = [];
    const lineEnd = /\r\n|\n|\r/g;
    let start = 0;
    for (let found = lineEnd.exec(this.#buffer); found !== null; found = lineEnd.exec(this.#buffer)) {
      this.#line(this.#buffer.slice(start, found.index), events);
      start = lineEnd.lastIndex;
    }
    this.#skipLineFeed = start === this.#buffer.length && this.#buffer.endsWith('\r');
    this.#buffer = this.#buffer.slice(start);
    if (this.#buffer.length > MAX_LINE_CHARS) throw new RangeError('a line of the stream is too long');
    return events;
  }

  /**
   * @param {string} line
   * @param {SseEvent[]} events
   */
  #line(line, events) {
    if (line === '') {
      if (this.#data.length > 0) events.push({ type: 'data', data: this.#data.join('\n') });
      this.#data = [];
      return;
    }
    if (line.startsWith(':')) {
      events.push({ type: 'comment', text: line.slice(1).trim() });
      return;
    }
    const colon = line.indexOf(':');
    const field = colon < 0 ? line : line.slice(0, colon);
    if (field !== 'data') return; // event, id and retry mean nothing to this page
    const value = colon < 0 ? '' : line.slice(colon + 1);
    this.#data.push(value.startsWith(' ') ? value.slice(1) : value);
  }
}
