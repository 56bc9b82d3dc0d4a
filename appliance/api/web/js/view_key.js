/** The first thing a new reader sees: where the key goes, what becomes of it, and where to get one. */

import { ApiError } from './api.js';
import { h } from './dom.js';

/**
 * Fills the panel.
 * @param {object} options
 * @param {HTMLElement} options.root
 * @param {import('./i18n.js').I18n} options.i18n
 * @param {string} options.languageName of the other language, as its own readers call it
 * @param {import('./api.js').BoxApi} options.api
 * @param {(key: string, remember: boolean) => void} options.onKey
 * @param {() => void} options.onOtherLanguage
 * @param {boolean} options.rejected the key used until now is not accepted any more
 */
export function showKeyPanel({ root, i18n, languageName, api, onKey, onOtherLanguage, rejected }) {
  const field = h('input', {
    id: 'key-field',
    type: 'password',
    autocomplete: 'off',
    autocapitalize: 'off',
    spellcheck: 'false',
    placeholder: 'r1b_…',
    'aria-describedby': 'key-message',
  });
  const reveal = h(
    'button.quiet',
    { type: 'button', 'aria-controls': 'key-field', 'aria-pressed': 'false' },
    i18n.t('key_show'),
  );
  reveal.addEventListener('click', () => {
    const hidden = field.type === 'password';
    field.type = hidden ? 'text' : 'password';
    reveal.textContent = i18n.t(hidden ? 'key_hide' : 'key_show');
    reveal.setAttribute('aria-pressed', String(hidden));
    field.focus();
  });
  const remember = h('input', { type: 'checkbox', id: 'key-remember', 'aria-describedby': 'key-remember-hint' });
  const message = h('p.field-message', { id: 'key-message', role: 'alert' }, rejected ? i18n.t('key_rejected') : '');
  const submit = h('button.button.wide', { type: 'submit' }, i18n.t('key_continue'));

  const say = (/** @type {string} */ text) => {
    message.textContent = text;
    field.setAttribute('aria-invalid', String(text !== ''));
  };
  const form = h(
    'form.key-form',
    { novalidate: true },
    h('label', { for: 'key-field' }, i18n.t('key_label')),
    h('div.key-field', {}, field, reveal),
    message,
    h('label.check', {}, remember, h('span', {}, i18n.t('key_remember'))),
    h('p.field-hint', { id: 'key-remember-hint' }, i18n.t('key_remember_hint')),
    submit,
  );
  form.addEventListener('submit', async (/** @type {Event} */ event) => {
    event.preventDefault();
    const key = field.value.trim();
    if (key === '') {
      say(i18n.t('key_empty'));
      field.focus();
      return;
    }
    submit.disabled = true;
    submit.textContent = i18n.t('key_checking');
    try {
      await check(api, key);
      onKey(key, remember.checked);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      say(i18n.t(error.code === 'network' ? 'key_unreachable' : 'key_rejected'));
      field.focus();
    } finally {
      submit.disabled = false;
      submit.textContent = i18n.t('key_continue');
    }
  });

  root.replaceChildren(
    h(
      'div.key-card',
      {},
      h('img.mark', { src: 'favicon.svg', alt: '', width: 44, height: 44 }),
      h('h1', {}, i18n.t('key_title')),
      h('p.key-intro', {}, i18n.t('key_intro')),
      form,
      h(
        'details.key-help',
        {},
        h('summary', {}, i18n.t('key_help')),
        h('p', {}, i18n.t('key_help_text')),
        h('code', {}, 'r1box keys create NAME'),
      ),
    ),
    h('button.quiet.other-language', { type: 'button', onclick: onOtherLanguage }, languageName),
  );
  root.hidden = false;
  field.focus();
}

/**
 * Throws when the key is refused; a box that is busy or loading says nothing about the key.
 * @param {import('./api.js').BoxApi} api
 * @param {string} key
 */
async function check(api, key) {
  try {
    await api.models(key);
  } catch (error) {
    if (error instanceof ApiError && (error.status ?? 0) >= 500) return;
    throw error;
  }
}
