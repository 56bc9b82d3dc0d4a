/**
 * The model's name and state at the top, and a banner when the box cannot answer.
 *
 * @typedef {import('./api.js').Model} Model
 * @typedef {import('./api.js').Readiness} Readiness
 * @typedef {import('./i18n.js').TextKey} TextKey
 */

import { byId, h, icon } from './dom.js';

export class StatusView {
  /** What is shown now, so that a poll that says the same changes nothing. */
  #shown = '';

  /**
   * @param {object} options
   * @param {import('./i18n.js').I18n} options.i18n
   * @param {(id: string) => void} options.onModel
   */
  constructor(options) {
    this.options = options;
    this.root = byId('status');
    this.banner = byId('banner');
  }

  /**
   * @param {Readiness | null} readiness
   * @param {Model[]} models
   * @param {string | null} selected
   */
  show(readiness, models, selected) {
    const { i18n } = this.options;
    const shown = JSON.stringify([readiness, models, selected, i18n.language]);
    if (shown === this.#shown) return;
    this.#shown = shown;
    const state = readiness?.state ?? 'connecting';
    this.#head(state, readiness, models, selected);
    this.#banner(state, readiness);
  }

  /** @param {string} state @param {Readiness | null} readiness @param {Model[]} models @param {string | null} selected */
  #head(state, readiness, models, selected) {
    const { root } = this;
    const { i18n } = this.options;
    const text = this.#stateText(state, readiness);
    const dot = h(
      `span.dot.${state === 'ready' ? 'ok' : state === 'failed' || state === 'unreachable' ? 'bad' : 'busy'}`,
    );
    const name = selected ?? readiness?.model ?? null;
    /** @type {Node[]} */
    const parts = [dot];
    if (models.length > 1) parts.push(this.#picker(models, selected));
    else if (name !== null) parts.push(h('span.model-name', { title: name }, name));
    const bannerSaysIt = state === 'failed' || state === 'unreachable';
    const quiet = (state === 'ready' && name !== null) || bannerSaysIt;
    parts.push(h(quiet ? 'span.visually-hidden' : 'span.state-text', {}, text));
    if (state === 'starting' && readiness !== null && readiness.load_fraction !== null) {
      const percent = Math.round(readiness.load_fraction * 100);
      const fill = h('span.progress-fill');
      fill.style.width = `${percent}%`;
      const range = { 'aria-valuemin': 0, 'aria-valuemax': 100, 'aria-valuenow': percent };
      parts.push(h('span.progress', { role: 'progressbar', 'aria-label': i18n.t('state_loading'), ...range }, fill));
    }
    root.replaceChildren(...parts);
  }

  /** @param {Model[]} models @param {string | null} selected */
  #picker(models, selected) {
    const { i18n, onModel } = this.options;
    const picker = h('select.model-picker', {
      'aria-label': i18n.t('model'),
      onchange: () => onModel(picker.value),
    });
    picker.append(...models.map(({ id }) => h('option', { value: id, selected: id === selected }, id)));
    return picker;
  }

  /** @param {string} state @param {Readiness | null} readiness */
  #stateText(state, readiness) {
    const { i18n } = this.options;
    if (state === 'starting' && readiness !== null && readiness.load_fraction !== null) {
      return i18n.t('state_loading_percent', { percent: Math.round(readiness.load_fraction * 100) });
    }
    /** @type {Record<string, TextKey>} */
    const texts = {
      connecting: 'state_connecting',
      ready: 'state_ready',
      starting: 'state_loading',
      stopped: 'state_stopped',
      stopping: 'state_draining',
      draining: 'state_draining',
      failed: 'state_failed',
      unreachable: 'state_unreachable',
    };
    return i18n.t(texts[state] ?? 'state_connecting');
  }

  /** @param {string} state @param {Readiness | null} readiness */
  #banner(state, readiness) {
    const { banner } = this;
    const { i18n } = this.options;
    const bad = state === 'failed' || state === 'unreachable';
    banner.hidden = !bad;
    banner.replaceChildren();
    if (!bad) return;
    const cause = state === 'failed' ? (readiness?.error ?? null) : null;
    banner.append(
      icon('warning'),
      h(
        'div',
        {},
        h('strong', {}, i18n.t(state === 'failed' ? 'state_failed' : 'state_unreachable')),
        cause === null ? null : h('p', {}, cause),
        h('p', {}, i18n.t(state === 'failed' ? 'state_failed_hint' : 'state_unreachable_hint')),
      ),
    );
  }
}
