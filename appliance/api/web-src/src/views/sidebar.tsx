/** The list of chats: search, and what can be done to each. */

import type { JSX } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import type { ChatSummary, Snippet } from '../api/types.js';
import type { TextKey } from '../i18n/index.js';
import { groupByPeriod } from '../state/library.js';
import { chatHref } from '../state/route.js';
import { useStore } from '../state/store.js';
import { Confirm, Dialog, Icon, IconButton, Menu, download } from './parts.js';
import { SettingsDialog } from './settings.js';

export function Sidebar({ open, onClose }: { open: boolean; onClose: () => void }): JSX.Element {
  const { i18n, library, router, session } = useStore();
  const { t } = i18n;
  const [settings, setSettings] = useState(false);
  const close = useRef<HTMLDivElement>(null);
  const searching = library.query.value.trim() !== '';
  const chats = library.chats.value;
  useEffect(() => {
    if (open) close.current?.querySelector('button')?.focus();
  }, [open]);

  const groups = searching ? [{ period: null, chats }] : groupByPeriod(chats, new Date());
  return (
    <>
      <aside
        id="sidebar"
        class={open ? 'sidebar open' : 'sidebar'}
        aria-label={t('sidebar')}
        onKeyDown={(event) => {
          if (event.key === 'Escape' && open) onClose();
        }}
      >
        <div class="sidebar-head" ref={close}>
          <img class="mark" src="favicon.svg" alt="" width="26" height="26" />
          <span class="brand">{t('product')}</span>
          <IconButton icon="close" label={t('close_sidebar')} class="narrow-only" onClick={onClose} />
        </div>
        <a class="new-chat" href={chatHref(null)} onClick={onClose}>
          <Icon name="plus" />
          {t('new_chat')}
        </a>
        <div class="search">
          <Icon name="search" />
          <input
            type="search"
            autoComplete="off"
            spellcheck={false}
            aria-label={t('search_chats')}
            placeholder={t('search_chats')}
            value={library.query.value}
            onInput={(event) => library.search(event.currentTarget.value)}
          />
        </div>
        <nav class="chat-list" aria-label={t('sidebar')}>
          {library.error.value !== null && (
            <p class="list-note">
              {t('chats_failed')}{' '}
              <button type="button" class="quiet link" onClick={() => void library.load()}>
                {t('error_retry')}
              </button>
            </p>
          )}
          {library.loaded.value && chats.length === 0 && (
            <p class="list-note">{t(searching ? 'no_matches' : 'no_chats')}</p>
          )}
          {groups.map((group) => (
            <section key={group.period}>
              {group.period !== null && <h2>{t(`period_${group.period}` as TextKey)}</h2>}
              <ul>
                {group.chats.map((chat) => (
                  <ChatItem key={chat.id} chat={chat} onOpen={onClose} />
                ))}
              </ul>
            </section>
          ))}
          {library.cursor.value !== null && (
            <button type="button" class="quiet" onClick={() => void library.more()}>
              {t('more_chats')}
            </button>
          )}
        </nav>
        <div class="sidebar-foot">
          {session.canOperate.value && (
            <a class="foot-link" href="#/operator/cards" onClick={onClose} aria-current={router.route.value.view === 'operator' ? 'page' : undefined}>
              <Icon name="server" />
              {t('operator_area')}
            </a>
          )}
          <button type="button" class="foot-link" onClick={() => setSettings(true)}>
            <Icon name="gear" />
            {t('settings')}
          </button>
        </div>
      </aside>
      {open && <div class="backdrop" onClick={onClose} />}
      {settings && <SettingsDialog onClose={() => setSettings(false)} />}
    </>
  );
}

function ChatItem({ chat, onOpen }: { chat: ChatSummary; onOpen: () => void }): JSX.Element {
  const store = useStore();
  const { i18n, library, router, conversation, box } = store;
  const { t } = i18n;
  const [dialog, setDialog] = useState<'rename' | 'delete' | null>(null);
  const title = chat.title || t('untitled');
  const route = router.route.value;
  const current = route.view === 'chat' && route.id === chat.id;

  const save = async (format: 'markdown' | 'json'): Promise<void> => {
    const blob = await box.exportChat(chat.id, format);
    const name = title.replace(/[^\p{L}\p{N} _-]+/gu, '').trim().slice(0, 60) || 'chat';
    download(blob, `${name}.${format === 'json' ? 'json' : 'md'}`);
  };
  const remove = async (): Promise<void> => {
    await library.remove(chat.id);
    // Where the reader is now, not where they were when they asked.
    const now = router.route.value;
    if (now.view === 'chat' && now.id === chat.id) {
      conversation.close();
      router.go(chatHref(null));
    }
    store.notify(t('chat_deleted'));
  };
  return (
    <li class={current ? 'chat-item current' : 'chat-item'}>
      <a class="chat-link" href={chatHref(chat.id)} aria-current={current ? 'page' : undefined} title={title} onClick={onOpen}>
        <span class="chat-title">{title}</span>
        {chat.snippet && library.query.value !== '' && <Found snippet={chat.snippet} />}
        {library.answering.value.has(chat.id) && (
          <span class="running">
            <span class="visually-hidden">{t('chat_answering')}</span>
          </span>
        )}
      </a>
      <Menu
        label={t('chat_menu', { title })}
        items={[
          { label: t('chat_rename'), onChoose: () => setDialog('rename') },
          {
            label: t(chat.pinned ? 'chat_unpin' : 'chat_pin'),
            onChoose: () => store.run(() => library.pin(chat.id, !chat.pinned)),
          },
          { label: t('chat_export_markdown'), onChoose: () => store.run(() => save('markdown')) },
          { label: t('chat_export_json'), onChoose: () => store.run(() => save('json')) },
          { label: t('chat_delete'), danger: true, onChoose: () => setDialog('delete') },
        ]}
      />
      {dialog === 'rename' && <Rename chat={chat} onClose={() => setDialog(null)} />}
      {dialog === 'delete' && (
        <Confirm
          title={t('chat_delete_title')}
          text={t('chat_delete_text', { title })}
          action={t('chat_delete')}
          onConfirm={() => store.run(remove)}
          onClose={() => setDialog(null)}
        />
      )}
    </li>
  );
}

/** A piece of a message with the words that were searched for. */
function Found({ snippet }: { snippet: Snippet }): JSX.Element {
  const letters = [...snippet.text];
  const parts: (JSX.Element | string)[] = [];
  let at = 0;
  for (const [start, length] of snippet.marks) {
    parts.push(letters.slice(at, start).join(''), <mark key={start}>{letters.slice(start, start + length).join('')}</mark>);
    at = start + length;
  }
  return (
    <span class="chat-snippet">
      {parts}
      {letters.slice(at).join('')}
    </span>
  );
}

function Rename({ chat, onClose }: { chat: ChatSummary; onClose: () => void }): JSX.Element {
  const store = useStore();
  const { t } = store.i18n;
  const [title, setTitle] = useState(chat.title);
  const rename = async (): Promise<void> => {
    await store.library.rename(chat.id, title.trim());
    if (store.conversation.chatId.value === chat.id)
      store.conversation.summary.value = { ...(store.conversation.summary.value ?? chat), title: title.trim() };
    onClose();
  };
  return (
    <Dialog title={t('chat_rename')} onClose={onClose}>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          if (title.trim() !== '') store.run(rename);
        }}
      >
        <label class="field">
          <span class="visually-hidden">{t('chat_title')}</span>
          <input
            autoFocus
            maxLength={200}
            value={title}
            onInput={(event) => setTitle(event.currentTarget.value)}
            onFocus={(event) => event.currentTarget.select()}
          />
        </label>
        <div class="dialog-foot">
          <button type="button" class="button plain" onClick={onClose}>
            {t('cancel')}
          </button>
          <button type="submit" class="button" disabled={title.trim() === ''}>
            {t('save')}
          </button>
        </div>
      </form>
    </Dialog>
  );
}
