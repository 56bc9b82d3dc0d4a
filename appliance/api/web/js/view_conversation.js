/**
 * The open chat: its questions and answers, or a welcome when it has none.
 *
 * What is already shown stays as it is (open thoughts, selections): only messages that are new, or gone, are touched.
 *
 * @typedef {import('./chat.js').Chat} Chat
 * @typedef {import('./chat.js').Message} Message
 * @typedef {import('./run.js').AnswerRun} AnswerRun
 * @typedef {import('./view_error.js').NextStep} NextStep
 * @typedef {{message: Message, element: HTMLElement, edit: HTMLElement | null, view: AnswerView | null}} Shown
 */

import { byId, copyButton, h, icon } from './dom.js';
import { AnswerView } from './view_answer.js';

export class ConversationView {
  /** @type {Shown[]} */
  #shown = [];

  /**
   * @param {object} options
   * @param {import('./i18n.js').I18n} options.i18n
   * @param {import('./status.js').BoxStatus} options.status
   * @param {import('./scroll.js').StickyScroll} options.scroll
   * @param {(step: NextStep) => void} options.onStep
   * @param {(text: string) => void} options.onExample
   */
  constructor(options) {
    this.options = options;
    this.root = byId('conversation');
  }

  /** Forgets what is shown, so that the next show() builds all of it: the language changed. */
  clear() {
    this.#cut(0);
    this.root.replaceChildren();
  }

  /** @param {Chat} chat @param {AnswerRun | null} run the one that writes the chat's last answer now */
  show(chat, run) {
    const { root } = this;
    const { messages } = chat;
    let same = 0;
    while (same < this.#shown.length && this.#shown[same].message === messages[same]) same += 1;
    this.#cut(same);
    if (same === 0) root.replaceChildren(...(messages.length === 0 ? [this.#welcome()] : []));
    root.classList.toggle('empty', messages.length === 0);
    for (const message of messages.slice(same)) {
      const shown = message.role === 'user' ? this.#question(message) : this.#answer(message, run);
      this.#shown.push(shown);
      root.append(shown.element);
    }
    const lastQuestion = messages.map((message) => message.role).lastIndexOf('user');
    this.#shown.forEach(({ edit, view }, index) => {
      if (edit !== null) edit.hidden = index !== lastQuestion || run !== null;
      view?.setLast(index === messages.length - 1);
    });
  }

  /** @param {number} from */
  #cut(from) {
    for (const { element, view } of this.#shown.splice(from)) {
      view?.detach();
      element.remove();
    }
  }

  /** @param {import('./chat.js').Answer} answer @param {AnswerRun | null} run @returns {Shown} */
  #answer(answer, run) {
    const { i18n, status, scroll, onStep } = this.options;
    const view = new AnswerView({
      answer,
      run: run?.answer === answer ? run : null,
      i18n,
      status,
      onGrow: () => scroll.follow(),
      onToggle: () => scroll.settle(),
      onStep,
    });
    return { message: answer, element: view.element, edit: null, view };
  }

  /** @param {import('./chat.js').Question} question @returns {Shown} */
  #question(question) {
    const { i18n, onStep } = this.options;
    const edit = h(
      'button.quiet',
      { type: 'button', onclick: () => onStep('edit') },
      icon('edit'),
      h('span', {}, i18n.t('edit')),
    );
    const copy = copyButton({
      text: () => question.content,
      label: i18n.t('copy'),
      copiedLabel: i18n.t('copied'),
    });
    const element = h(
      'article.question',
      { 'aria-label': i18n.t('you_said') },
      h('div.bubble', {}, question.content),
      h('div.foot-row', {}, copy, edit),
    );
    return { message: question, element, edit, view: null };
  }

  #welcome() {
    const { i18n, onExample } = this.options;
    const examples = /** @type {const} */ (['example_1', 'example_2', 'example_3']).map((name) =>
      h('button.example', { type: 'button', onclick: () => onExample(i18n.t(`${name}_text`)) }, i18n.t(name)),
    );
    return h(
      'div.welcome',
      {},
      h('h2', {}, i18n.t('welcome')),
      h('p', {}, i18n.t('welcome_note')),
      h('div.examples', {}, ...examples),
    );
  }
}
