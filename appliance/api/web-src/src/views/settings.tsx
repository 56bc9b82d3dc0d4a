/** What a person sets for themselves. */

import type { JSX } from 'preact';
import { useState } from 'preact/hooks';
import type { LanguageCode } from '../api/types.js';
import type { Theme } from '../state/prefs.js';
import { chatHref } from '../state/route.js';
import { useStore } from '../state/store.js';
import { PasswordForm } from './entry.js';
import { Confirm, Dialog } from './parts.js';

export function SettingsDialog({ onClose }: { onClose: () => void }): JSX.Element {
  const store = useStore();
  const { i18n, prefs, session, library, conversation, router } = store;
  const { t } = i18n;
  const [part, setPart] = useState<'main' | 'password' | 'delete'>('main');
  const me = session.me.value;

  if (part === 'password') {
    return (
      <Dialog title={t('password_change')} onClose={onClose}>
        <PasswordForm
          onDone={() => {
            store.notify(t('password_changed'));
            onClose();
          }}
        />
      </Dialog>
    );
  }
  const logOut = async (everywhere: boolean): Promise<void> => {
    await session.logOut(everywhere);
    router.go(chatHref(null), true);
    onClose();
  };
  const keepDays = session.limits.value?.keep_days ?? null;
  const removeAll = async (): Promise<void> => {
    await library.removeAll();
    conversation.close();
    router.go(chatHref(null));
    store.notify(t('all_deleted'));
  };
  return (
    <Dialog title={t('settings')} onClose={onClose}>
      <label class="setting">
        <span>{t('language')}</span>
        <select
          value={prefs.language.value ?? ''}
          onChange={(event) => {
            const chosen = (event.currentTarget.value || null) as LanguageCode | null;
            prefs.language.value = chosen;
            store.run(() => session.speak(i18n.language.value));
          }}
        >
          <option value="">{t('language_auto')}</option>
          <option value="en">English</option>
          <option value="zh">中文</option>
        </select>
      </label>
      <label class="setting">
        <span>{t('appearance')}</span>
        <select
          value={prefs.theme.value ?? ''}
          onChange={(event) => (prefs.theme.value = (event.currentTarget.value || null) as Theme | null)}
        >
          <option value="">{t('theme_auto')}</option>
          <option value="light">{t('theme_light')}</option>
          <option value="dark">{t('theme_dark')}</option>
        </select>
      </label>
      <div class="setting-group">
        <p class="setting-note">{me && t(session.byKey ? 'signed_in_key' : 'signed_in_as', { name: me.name })}</p>
        <div class="setting-buttons">
          {me?.kind === 'session' && (
            <button type="button" class="button plain" onClick={() => setPart('password')}>
              {t('password_change')}
            </button>
          )}
          <button type="button" class="button plain" onClick={() => setPart('delete')}>
            {t('delete_all')}
          </button>
          <button type="button" class="button plain" onClick={() => store.run(() => logOut(false))}>
            {t('sign_out')}
          </button>
          {me?.kind === 'session' && (
            <button type="button" class="button plain" onClick={() => store.run(() => logOut(true))}>
              {t('sign_out_everywhere')}
            </button>
          )}
        </div>
      </div>
      {keepDays !== null && <p class="setting-version">{t('chats_kept', { days: keepDays })}</p>}
      <p class="setting-version">{t('version', { version: session.version.value })}</p>
      {part === 'delete' && (
        <Confirm
          title={t('delete_all_title')}
          text={t('delete_all_text')}
          action={t('chat_delete')}
          onConfirm={() => store.run(removeAll)}
          onClose={() => setPart('main')}
        />
      )}
    </Dialog>
  );
}
