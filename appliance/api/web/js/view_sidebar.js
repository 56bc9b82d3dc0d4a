/**
 * The list of chats, with search and delete. On narrow screens it is a drawer over the conversation.
 *
 * @typedef {import('./store.js').ChatEntry} ChatEntry
 */

import { byId, h, icon } from './dom.js';
import { period } from './format.js';

export class SidebarView {
  #narrow = matchMedia('(max-width: 860px)');
  #searchTimer = 0;

  /**
   * @param {object} options
   * @param {import('./i18n.js').I18n} options.i18n
   * @param {(query: string) => ChatEntry[]} options.find
   * @param {() => string} options.currentId
   * @param {(id: string) => boolean} options.isRunning
   * @param {(id: string) => void} options.onOpen
   * @param {(entry: ChatEntry) => void} options.onDelete
   * @param {() => void} options.onNew
   * @param {() => void} options.onSettings
   */
  constructor(options) {
    this.options = options;
    this.panel = byId('sidebar');
    this.list = byId('chat-list');
    this.searchField = byId('search');
    this.backdrop = byId('backdrop');
    this.opener = byId('open-sidebar');
    byId('close-sidebar').append(icon('close'));
    this.opener.append(icon('menu'));
    byId('new-chat-small').append(icon('plus'));
    byId('search').before(icon('search'));

    this.opener.addEventListener('click', () => this.open());
    byId('close-sidebar').addEventListener('click', () => this.close());
    this.backdrop.addEventListener('click', () => this.close());
    this.panel.addEventListener('keydown', (/** @type {KeyboardEvent} */ event) => {
      if (event.key === 'Escape') this.close();
    });
    for (const id of ['new-chat', 'new-chat-small']) {
      byId(id).addEventListener('click', () => {
        this.close();
        options.onNew();
      });
    }
    byId('open-settings').addEventListener('click', () => options.onSettings());
    this.searchField.addEventListener('input', () => {
      clearTimeout(this.#searchTimer);
      this.#searchTimer = setTimeout(() => this.refresh(), 120);
    });
    this.#narrow.addEventListener('change', () => this.close());
    this.close();
    this.relabel();
  }

  relabel() {
    const { i18n } = this.options;
    byId('new-chat').replaceChildren(icon('plus'), h('span', {}, i18n.t('new_chat')));
    byId('open-settings').replaceChildren(icon('settings'), h('span', {}, i18n.t('settings')));
    this.refresh();
  }

  open() {
    this.panel.classList.add('open');
    this.panel.inert = false;
    this.backdrop.hidden = false;
    byId('main').inert = true;
    this.opener.setAttribute('aria-expanded', 'true');
    byId('close-sidebar').focus();
  }

  /** On a wide screen the list simply stays. */
  close() {
    const wasOpen = this.panel.classList.contains('open');
    this.panel.classList.remove('open');
    this.panel.inert = this.#narrow.matches;
    this.backdrop.hidden = true;
    byId('main').inert = false;
    this.opener.setAttribute('aria-expanded', 'false');
    if (wasOpen) this.opener.focus();
  }

  refresh() {
    const { i18n, find, currentId } = this.options;
    const query = this.searchField.value.trim();
    const entries = find(query);
    this.list.replaceChildren();
    if (entries.length === 0) {
      this.list.append(h('p.list-empty', {}, i18n.t(query === '' ? 'no_chats' : 'no_matches')));
      return;
    }
    const now = Date.now();
    let heading = '';
    let group = null;
    for (const entry of entries) {
      const when = period(entry.updated_ms, now);
      if (when !== heading || group === null) {
        heading = when;
        group = h('ul', {});
        this.list.append(h('h2', {}, i18n.t(`period_${when}`)), group);
      }
      group.append(this.#row(entry, entry.id === currentId()));
    }
  }

  /** @param {ChatEntry} entry @param {boolean} current */
  #row(entry, current) {
    const { i18n, isRunning, onOpen, onDelete } = this.options;
    const title = entry.title === '' ? i18n.t('untitled') : entry.title;
    const running = isRunning(entry.id);
    const open = h(
      'button.chat-link',
      {
        type: 'button',
        title,
        'aria-current': current ? 'page' : null,
        onclick: () => this.#pick(() => onOpen(entry.id)),
      },
      running ? h('span.running', { role: 'img', 'aria-label': i18n.t('chat_running') }) : null,
      h('span.chat-title', {}, title),
    );
    const label = i18n.t('delete_chat', { title });
    const remove = { type: 'button', 'aria-label': label, title: label, onclick: () => onDelete(entry) };
    return h('li', {}, open, h('button.icon-button.chat-delete', remove, icon('trash')));
  }

  /** @param {() => void} open */
  #pick(open) {
    this.close();
    open();
  }
}
