/** Short notices: a toast with an optional button, a screen reader's announcements, the tab's title. */

import { h } from './dom.js';

const TOAST_MS = 7000;

export class Notices {
  #timer = 0;
  #title;

  /** @param {HTMLElement} toast @param {HTMLElement} announcer */
  constructor(toast, announcer) {
    this.toast = toast;
    this.announcer = announcer;
    this.#title = document.title;
    document.addEventListener('visibilitychange', () => {
      if (!document.hidden && document.title.startsWith('✓')) this.activity(null);
    });
  }

  /** @param {string} text @param {{label: string, act: () => void}} [button] */
  show(text, button) {
    clearTimeout(this.#timer);
    const hide = () => (this.toast.hidden = true);
    const press = () => {
      hide();
      button?.act();
    };
    this.toast.replaceChildren(h('span', {}, text));
    if (button !== undefined) this.toast.append(h('button.quiet', { type: 'button', onclick: press }, button.label));
    this.toast.hidden = false;
    this.#timer = setTimeout(hide, TOAST_MS);
  }

  /** Says it to a screen reader; the stages of an answer, never its tokens. @param {string} text */
  say(text) {
    this.announcer.textContent = text;
  }

  /**
   * Announces a stage of the answer the reader sees, and shows it in the tab's title.
   * @param {import('./run.js').AnswerRun} run
   * @param {string} errorText what the error card says
   * @param {import('./i18n.js').I18n} i18n
   */
  stage({ phase, answer }, errorText, i18n) {
    if (phase === 'ended') {
      if (answer.status === 'failed') this.say(errorText);
      else this.say(i18n.t(answer.status === 'stopped' ? 'said_stopped' : 'said_done'));
      this.activity(document.hidden && answer.status === 'done' ? i18n.t('title_done') : null);
    } else if (phase === 'thinking' || phase === 'answering') {
      this.say(i18n.t(`said_${phase}`));
      this.activity(i18n.t(`title_${phase}`));
    } else {
      this.activity(i18n.t('title_waiting'));
    }
  }

  /** @param {string | null} text what goes on, or null */
  activity(text) {
    document.title = text === null ? this.#title : `${text} · ${this.#title}`;
  }
}
