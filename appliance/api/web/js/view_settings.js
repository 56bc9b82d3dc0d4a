/** The settings dialog and the question before signing out. */

import { h, icon } from './dom.js';

/** @typedef {{language: string | null, theme: string | null, remembered: boolean}} Settings null follows the browser */

/**
 * @param {object} options
 * @param {HTMLDialogElement} options.dialog
 * @param {import('./i18n.js').I18n} options.i18n
 * @param {Settings} options.settings
 * @param {(settings: Settings) => void} options.onChange
 * @param {() => void} options.onSignOut
 */
export function showSettings({ dialog, i18n, settings, onChange, onSignOut }) {
  const language = select(
    [
      ['', i18n.t('language_auto')],
      ['en', 'English'],
      ['zh', '中文'],
    ],
    settings.language,
    (value) => onChange({ ...settings, language: value }),
  );
  const theme = select(
    [
      ['', i18n.t('theme_auto')],
      ['light', i18n.t('theme_light')],
      ['dark', i18n.t('theme_dark')],
    ],
    settings.theme,
    (value) => onChange({ ...settings, theme: value }),
  );
  const remember = h('input', {
    type: 'checkbox',
    checked: settings.remembered,
    'aria-describedby': 'settings-remember-hint',
    onchange: () => onChange({ ...settings, remembered: remember.checked }),
  });
  const close = { type: 'button', 'aria-label': i18n.t('close'), onclick: () => dialog.close() };
  dialog.setAttribute('aria-labelledby', 'settings-title');
  dialog.replaceChildren(
    h(
      'div.dialog-head',
      {},
      h('h2', { id: 'settings-title' }, i18n.t('settings')),
      h('button.icon-button', close, icon('close')),
    ),
    h('label.setting', {}, h('span', {}, i18n.t('language')), language),
    h('label.setting', {}, h('span', {}, i18n.t('appearance')), theme),
    h('label.check', {}, remember, h('span', {}, i18n.t('key_remember'))),
    h('p.field-hint', { id: 'settings-remember-hint' }, i18n.t('key_remember_hint')),
    h('div.dialog-foot', {}, h('button.button.plain', { type: 'button', onclick: onSignOut }, i18n.t('sign_out'))),
  );
  if (!dialog.open) dialog.showModal();
}

/**
 * @param {object} options
 * @param {HTMLDialogElement} options.dialog
 * @param {import('./i18n.js').I18n} options.i18n
 * @param {boolean} options.remembered chats not remembered go in any case
 * @param {(deleteChats: boolean) => void} options.onSignOut
 */
export function askSignOut({ dialog, i18n, remembered, onSignOut }) {
  const both = h('input', { type: 'checkbox', checked: true });
  const confirm = () => {
    dialog.close();
    onSignOut(!remembered || both.checked);
  };
  const signOut = h('button.button', { type: 'button', onclick: confirm }, i18n.t('sign_out'));
  dialog.setAttribute('aria-labelledby', 'sign-out-title');
  dialog.replaceChildren(
    h('h2', { id: 'sign-out-title' }, i18n.t('sign_out_title')),
    h('p', {}, i18n.t('sign_out_text')),
    ...(remembered ? [h('label.check', {}, both, h('span', {}, i18n.t('sign_out_delete')))] : []),
    h(
      'div.dialog-foot',
      {},
      h('button.button.plain', { type: 'button', onclick: () => dialog.close() }, i18n.t('cancel')),
      signOut,
    ),
  );
  dialog.showModal();
  signOut.focus();
}

/** @param {[string, string][]} choices @param {string | null} chosen @param {(value: string | null) => void} onPick */
function select(choices, chosen, onPick) {
  const field = h('select', { onchange: () => onPick(field.value === '' ? null : field.value) });
  field.append(...choices.map(([value, text]) => h('option', { value, selected: value === (chosen ?? '') }, text)));
  return field;
}
