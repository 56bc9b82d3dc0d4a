/**
 * One answer: a quiet line about the thinking, the text, what became of it, and its buttons.
 *
 * While its run goes on, changes are drawn at most once per frame, and less often when drawing is slow.
 *
 * @typedef {import('./chat.js').Answer} Answer
 * @typedef {import('./run.js').AnswerRun} AnswerRun
 */

import { copyButton, h, icon } from './dom.js';
import { fullCount, speed } from './format.js';
import { MarkdownView } from './markdown_view.js';
import { errorCard, spoken } from './view_error.js';

/** Drawing takes at most this share of the time: a slow frame is followed by a longer pause. */
const PAUSE_PER_COST = 3;
/** Often enough that no second is skipped; the text is only written when it changes. */
const CLOCK_MS = 250;

export class AnswerView {
  #parts;
  #markdown;
  #thoughtText = document.createTextNode('');
  #frame = 0;
  #timer = 0;
  #notBefore_ms = 0;
  #stopListening = () => {};
  #last = true;

  /**
   * @param {object} options
   * @param {Answer} options.answer
   * @param {AnswerRun | null} options.run
   * @param {import('./i18n.js').I18n} options.i18n
   * @param {import('./status.js').BoxStatus} options.status
   * @param {() => void} options.onGrow
   * @param {() => void} options.onToggle
   * @param {(step: import('./view_error.js').NextStep) => void} options.onStep
   */
  constructor(options) {
    this.options = options;
    const { i18n } = options;
    const id = `thought-${Math.random().toString(36).slice(2)}`;
    const label = h('span');
    const body = h('div.thought-text', { id, hidden: true }, this.#thoughtText);
    const toggle = h(
      'button.thought-toggle',
      { type: 'button', 'aria-expanded': 'false', 'aria-controls': id, onclick: () => this.#toggleThought() },
      icon('chevron'),
      label,
    );
    const thought = h('div.thought', { hidden: true }, toggle, body);
    const waiting = h('p.waiting', { hidden: true });
    const text = h('div.markdown');
    const foot = h('div.foot');
    this.#parts = { thought, toggle, label, body, waiting, text, foot };
    this.#markdown = new MarkdownView(text, { copy: i18n.t('copy'), copied: i18n.t('copied'), code: i18n.t('code') });
    const heading = h('h2.visually-hidden', {}, i18n.t('answer')); // a screen reader goes from answer to answer by it
    this.element = h('article.answer', { 'aria-label': i18n.t('answer') }, heading, thought, waiting, text, foot);
    this.#draw();
    if (options.run !== null && options.run.phase !== 'ended') this.#attach(options.run);
  }

  /** Lets go of the run: the view leaves the page, the run goes on. */
  detach() {
    this.#stopListening();
    cancelAnimationFrame(this.#frame);
    clearTimeout(this.#frame);
    clearInterval(this.#timer);
  }

  /** Only the last answer can be made again. @param {boolean} last */
  setLast(last) {
    if (last === this.#last) return;
    this.#last = last;
    if (this.options.answer.status !== 'streaming') this.#drawFoot();
  }

  /** @param {AnswerRun} run */
  #attach(run) {
    this.element.setAttribute('aria-busy', 'true');
    this.#timer = setInterval(() => this.#drawLines(), CLOCK_MS);
    this.#stopListening = run.subscribe(() => {
      if (run.phase === 'ended') {
        this.detach();
        this.element.removeAttribute('aria-busy');
        this.#draw();
        this.options.onGrow();
      } else if (this.#frame === 0) {
        this.#schedule();
      }
    });
  }

  #schedule() {
    const wait = this.#notBefore_ms - performance.now();
    const draw = () => {
      const start = performance.now();
      this.#frame = 0;
      this.#draw();
      this.options.onGrow();
      const end = performance.now();
      this.#notBefore_ms = end + (end - start) * PAUSE_PER_COST;
    };
    this.#frame = requestAnimationFrame(() => {
      if (wait <= 0) draw();
      else this.#frame = setTimeout(draw, wait);
    });
  }

  #draw() {
    const { answer } = this.options;
    const more = answer.reasoning.slice(this.#thoughtText.length);
    if (more !== '') this.#thoughtText.appendData(more);
    this.#markdown.update(answer.content.replace(/^\s*\n/, ''), answer.status !== 'streaming');
    this.#drawLines();
    if (answer.status !== 'streaming') this.#drawFoot();
  }

  #toggleThought() {
    const { toggle, body } = this.#parts;
    const open = body.hidden;
    body.hidden = !open;
    toggle.setAttribute('aria-expanded', String(open));
    this.options.onToggle();
  }

  /** The lines over the answer: what it waits for, and the thinking. */
  #drawLines() {
    const { answer, run } = this.options;
    const { thought, label, waiting } = this.#parts;
    thought.hidden = answer.reasoning === '';
    if (!thought.hidden) setText(label, this.#thoughtLine());
    const waitingText = run === null || answer.status !== 'streaming' ? '' : this.#waitingLine(run);
    waiting.hidden = waitingText === '';
    setText(waiting, waitingText);
  }

  #thoughtLine() {
    const { answer, run, i18n } = this.options;
    if (run?.phase === 'thinking' && run.thinking_since_ms !== null) {
      return this.#lasting('thinking', run.thinking_since_ms);
    }
    const words = [
      answer.thought_ms === null
        ? i18n.t('thought_unknown')
        : i18n.t('thought', { time: spoken(answer.thought_ms, i18n) }),
    ];
    const tokens = answer.usage?.reasoning_tokens ?? null;
    if (tokens !== null) words.push(i18n.t('thought_tokens', { count: fullCount(tokens, i18n.locale) }));
    return words.join(' · ');
  }

  /** @param {AnswerRun} run */
  #waitingLine(run) {
    const { i18n, status } = this.options;
    if (run.phase === 'waiting') return this.#lasting('waiting', run.started_ms);
    if (run.phase === 'queued' && run.queue !== null) {
      const { position, wait_s } = run.queue;
      if (wait_s === null) return i18n.t('queued', { position });
      return i18n.t('queued_wait', { position, time: spoken(wait_s * 1000, i18n) });
    }
    if (run.phase !== 'retrying') return '';
    if (status.current?.state === 'ready') return i18n.t('retrying_busy');
    if (status.current?.state === 'failed') return i18n.t('retrying_failed');
    const fraction = status.current?.load_fraction ?? null;
    if (fraction === null) return i18n.t('retrying_loading');
    return i18n.t('retrying_loading_percent', { percent: Math.round(fraction * 100) });
  }

  /**
   * What goes on, with its time from the first full second.
   * @param {'thinking' | 'waiting'} what
   * @param {number} since_ms
   */
  #lasting(what, since_ms) {
    const { i18n } = this.options;
    const ms = performance.now() - since_ms;
    const fullSeconds = Math.floor(ms / 1000);
    return fullSeconds === 0 ? i18n.t(what) : i18n.t(`${what}_time`, { time: spoken(fullSeconds * 1000, i18n) });
  }

  #drawFoot() {
    const { answer, i18n, onStep } = this.options;
    const last = this.#last;
    const { foot } = this.#parts;
    foot.replaceChildren();
    const note = this.#note();
    if (note !== '') foot.append(h('p.note', {}, note));
    if (answer.error !== null) foot.append(errorCard({ error: answer.error, i18n, onStep: last ? onStep : null }));
    const row = h('div.foot-row');
    if (answer.content !== '') {
      const copied = i18n.t('copied');
      row.append(copyButton({ text: () => answer.content.trim(), label: i18n.t('copy'), copiedLabel: copied }));
    }
    if (last && answer.error === null) {
      const again = { type: 'button', onclick: () => onStep('retry') };
      row.append(h('button.quiet', again, icon('retry'), h('span', {}, i18n.t('regenerate'))));
    }
    const facts = this.#facts();
    if (facts !== '') row.append(h('span.facts', {}, facts));
    if (row.childNodes.length > 0) foot.append(row);
  }

  #note() {
    const { answer, i18n } = this.options;
    const empty = answer.content.trim() === '';
    if (answer.status === 'stopped') return i18n.t(empty && answer.reasoning !== '' ? 'stopped_thinking' : 'stopped');
    if (answer.finish_reason === 'length') return i18n.t(empty ? 'cut_while_thinking' : 'cut_by_length');
    return empty && answer.error === null ? i18n.t('empty_answer') : '';
  }

  #facts() {
    const { answer, i18n } = this.options;
    const facts = [];
    if (answer.usage !== null) {
      const count = answer.usage.completion_tokens - (answer.usage.reasoning_tokens ?? 0);
      facts.push(i18n.t('answer_tokens', { count: fullCount(count, i18n.locale) }));
    }
    if (answer.tokens_per_s !== null) facts.push(i18n.t('tokens_per_s', { speed: speed(answer.tokens_per_s) }));
    return facts.join(' · ');
  }
}

/** @param {HTMLElement} element @param {string} text */
function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
