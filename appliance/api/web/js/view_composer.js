/**
 * The message field with its button: send, or stop while an answer is being made.
 */

import { byId, h, icon } from './dom.js';
import { fullCount, shortCount } from './format.js';

export class ComposerView {
  #busy = false;
  #composing = false;

  /**
   * @param {object} options
   * @param {import('./i18n.js').I18n} options.i18n
   * @param {(text: string) => void} options.onSend
   * @param {() => void} options.onStop
   * @param {(text: string) => void} options.onDraft
   * @param {() => void} options.onCancelEdit
   */
  constructor(options) {
    this.options = options;
    const form = byId('composer');
    const input = byId('input');
    this.elements = { form, input, send: byId('send'), meter: byId('meter'), editing: byId('editing') };
    form.addEventListener('submit', (/** @type {Event} */ event) => {
      event.preventDefault();
      if (this.#busy) options.onStop();
      else this.#send();
    });
    input.addEventListener('input', () => {
      this.#fit();
      options.onDraft(input.value);
    });
    // An input method uses Enter to take a candidate; Safari reports that key after compositionend, as code 229.
    input.addEventListener('compositionstart', () => (this.#composing = true));
    input.addEventListener('compositionend', () => (this.#composing = false));
    input.addEventListener('keydown', (/** @type {KeyboardEvent} */ event) => this.#key(event));
    form.addEventListener('click', (/** @type {MouseEvent} */ event) => {
      if (event.target === form) input.focus();
    });
    this.relabel();
  }

  get text() {
    return this.elements.input.value;
  }

  set text(value) {
    this.elements.input.value = value;
    this.#fit();
  }

  focus() {
    const { input } = this.elements;
    input.focus({ preventScroll: true });
    input.setSelectionRange(input.value.length, input.value.length);
  }

  /** Offers a beginning for the reader to go on with. @param {string} text */
  propose(text) {
    this.text = text;
    this.options.onDraft(text);
    this.focus();
  }

  /** @param {boolean} busy an answer is being made in this chat */
  setBusy(busy) {
    if (busy === this.#busy) return;
    this.#busy = busy;
    this.relabel();
  }

  /** @param {boolean} editing the field holds the last message again */
  setEditing(editing) {
    const { editing: bar } = this.elements;
    const { i18n, onCancelEdit } = this.options;
    bar.hidden = !editing;
    const cancel = h('button.quiet', { type: 'button', onclick: onCancelEdit }, i18n.t('cancel'));
    bar.replaceChildren(...(editing ? [h('span', {}, i18n.t('editing')), cancel] : []));
  }

  /** @param {number | null} used @param {number | null} total tokens */
  setMeter(used, total) {
    const { meter } = this.elements;
    const { i18n } = this.options;
    meter.hidden = used === null;
    if (used === null) return;
    if (total === null) {
      meter.replaceChildren(i18n.t('context_used', { used: shortCount(used) }));
      return;
    }
    const bar = h('span.meter-bar', { 'aria-hidden': 'true' }, h('span.meter-fill'));
    bar.firstChild.style.width = `${Math.min(100, (100 * used) / total)}%`;
    bar.classList.toggle('nearly-full', used > 0.85 * total);
    const exact = `${fullCount(used, i18n.locale)} / ${fullCount(total, i18n.locale)}`;
    meter.replaceChildren(
      bar,
      h('span', { title: exact }, i18n.t('context_meter', { used: shortCount(used), total: shortCount(total) })),
    );
  }

  relabel() {
    const { send } = this.elements;
    const name = this.#busy ? 'stop' : 'send';
    send.replaceChildren(icon(name));
    send.classList.toggle('stop', this.#busy);
    send.setAttribute('aria-label', this.options.i18n.t(name));
    send.title = this.options.i18n.t(name);
    this.#fit();
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    if (event.isComposing || this.#composing || event.keyCode === 229) return;
    if (event.key === 'Escape' && this.#busy) {
      event.preventDefault();
      this.options.onStop();
      return;
    }
    // On a phone Enter is the only way to a new line, and the button is under the thumb.
    const onPhone = matchMedia('(pointer: coarse)').matches && !matchMedia('(any-pointer: fine)').matches;
    if (event.key !== 'Enter' || event.shiftKey || event.altKey || onPhone) return;
    event.preventDefault();
    if (!this.#busy) this.#send();
  }

  #send() {
    const text = this.text.trim();
    if (text !== '') this.options.onSend(text);
  }

  /** The field is as high as its text; CSS bounds it. */
  #fit() {
    const { input, send } = this.elements;
    input.style.height = 'auto';
    input.style.height = `${input.scrollHeight}px`;
    send.disabled = !this.#busy && input.value.trim() === '';
  }
}
