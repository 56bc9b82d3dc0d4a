/**
 * The page's wiring: makes the parts, and carries what one says to the others. The only module with page state.
 *
 * @typedef {import('./chat.js').Chat} Chat
 */

import { ApiError, BoxApi } from './api.js';
import { conversationTokens, newAnswer, newChat, settle, titleOf, wireMessages } from './chat.js';
import { byId, h, icon } from './dom.js';
import { I18n, pickLanguage } from './i18n.js';
import { Notices } from './notices.js';
import { keyInFragment, Preferences, usableStorage } from './preferences.js';
import { AnswerRun } from './run.js';
import { StickyScroll } from './scroll.js';
import { BoxStatus } from './status.js';
import { ChatStore } from './store.js';
import { followTheme } from './theme.js';
import { ComposerView } from './view_composer.js';
import { ConversationView } from './view_conversation.js';
import { showKeyPanel } from './view_key.js';
import { askSignOut, showSettings } from './view_settings.js';
import { SidebarView } from './view_sidebar.js';
import { StatusView } from './view_status.js';

/** While an answer streams the chat is written this often, so that a closed tab loses little. */
const SAVE_EVERY_MS = 3000;

class App {
  /** @type {Chat} */
  #chat = newChat();
  /** Answers being made, by chat, whichever the reader looks at. @type {Map<string, {run: AnswerRun, chat: Chat}>} */
  #running = new Map();
  /** @type {import('./api.js').Model[]} */
  #models = [];
  /** @type {string | null} */
  #pickedModel = null;
  #editing = false;
  #saved_ms = 0;

  constructor() {
    this.preferences = new Preferences(
      usableStorage(() => localStorage),
      usableStorage(() => sessionStorage),
    );
    this.i18n = new I18n(pickLanguage(this.preferences.language, navigator.languages));
    this.applyTheme = followTheme(() => this.preferences.theme);
    this.api = new BoxApi(document.baseURI, fetch.bind(globalThis));
    this.status = new BoxStatus(this.api);
    this.store = new ChatStore(this.preferences.chatStorage);
    this.notices = new Notices(byId('toast'), byId('announcer'));
    this.scroll = new StickyScroll(byId('scroll'), byId('jump'));
    const { i18n, status, scroll } = this;
    this.statusView = new StatusView({
      i18n,
      onModel: (id) => {
        this.#pickedModel = id;
        this.#showStatus();
      },
    });
    this.conversation = new ConversationView({
      i18n,
      status,
      scroll,
      onStep: (step) => this.#step(step),
      onExample: (text) => this.composer.propose(text),
    });
    this.composer = new ComposerView({
      i18n,
      onSend: (text) => this.#send(text),
      onStop: () => this.#running.get(this.#chat.id)?.run.stop(),
      onDraft: (text) => this.#keepDraft(text),
      onCancelEdit: () => this.#cancelEdit(),
    });
    this.sidebar = new SidebarView({
      i18n,
      find: (query) => this.store.search(query),
      currentId: () => this.#chat.id,
      isRunning: (id) => this.#running.has(id),
      onOpen: (id) => this.#open(id),
      onDelete: (entry) => this.#delete(entry.id),
      onNew: () => this.#show(newChat()),
      onSettings: () => this.#settings(),
    });
  }

  start() {
    this.#applyLanguage();
    this.status.subscribe((readiness) => {
      const known = this.#models.some((model) => model.id === readiness.model);
      if (readiness.state === 'ready' && !known && this.preferences.key !== null) void this.#loadModels();
      this.#showStatus();
    });
    addEventListener('hashchange', () => this.#takeKeyFromAddress() && this.#enter());
    addEventListener('pagehide', () => {
      for (const { chat, run } of this.#running.values()) {
        this.store.save(chat);
        run.stop(); // leaving is no failure of the connection
      }
    });
    addEventListener('storage', (event) => {
      if (event.key === 'r1box.chats') this.sidebar.refresh();
      if (event.key === 'r1box.key' && this.preferences.key === null) this.#askKey(false);
    });
    this.status.start();
    this.#takeKeyFromAddress();
    if (this.preferences.key === null) this.#askKey(false);
    else this.#enter();
  }

  /** A key in the address is used and removed from it, so that it is in no bookmark and on no screen. */
  #takeKeyFromAddress() {
    const key = keyInFragment(location.hash);
    if (key === null) return false;
    history.replaceState(null, '', location.pathname + location.search);
    this.preferences.signIn(key, this.preferences.remembered);
    return true;
  }

  /** @param {boolean} rejected */
  #askKey(rejected) {
    const { i18n } = this;
    byId('app').hidden = true;
    showKeyPanel({
      root: byId('key-panel'),
      i18n,
      rejected,
      languageName: i18n.language === 'zh' ? 'English' : '中文',
      api: this.api,
      onKey: (key, remember) => {
        this.preferences.signIn(key, remember);
        this.#enter();
      },
      onOtherLanguage: () => {
        this.preferences.language = i18n.language === 'zh' ? 'en' : 'zh';
        this.#applyLanguage();
        this.#askKey(rejected);
      },
    });
  }

  /** Shows the chats to a reader who has a key. */
  #enter() {
    this.store = new ChatStore(this.preferences.chatStorage);
    byId('key-panel').hidden = true;
    byId('key-panel').replaceChildren();
    byId('app').hidden = false;
    const open = this.preferences.currentChat;
    const chat = open === null ? null : this.store.load(open);
    this.#show(this.#running.get(open ?? '')?.chat ?? (chat === null ? newChat() : settle(chat)));
    void this.#loadModels();
  }

  async #loadModels() {
    try {
      this.#models = await this.api.models(this.preferences.key ?? '');
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (error.status === 401) this.#askKey(true);
      // Anything else shows in the box's state, which is asked for by itself.
    }
    this.#showStatus();
  }

  get #model() {
    const loaded = this.status.current?.model ?? null;
    const ids = this.#models.map((model) => model.id);
    if (this.#pickedModel !== null && ids.includes(this.#pickedModel)) return this.#pickedModel;
    return loaded !== null && (ids.length === 0 || ids.includes(loaded)) ? loaded : (ids[0] ?? loaded);
  }

  #showStatus() {
    this.statusView.show(this.status.current, this.#models, this.#model);
    this.#showMeter();
  }

  #showMeter() {
    const now = this.status.current;
    const loaded = now?.model === this.#model ? (now?.context_tokens ?? null) : null;
    const total = loaded ?? this.#models.find((model) => model.id === this.#model)?.context_tokens ?? null;
    this.composer.setMeter(conversationTokens(this.#chat.messages), total);
  }

  /** @param {Chat} chat */
  #show(chat) {
    this.#chat = chat;
    this.preferences.currentChat = chat.messages.length === 0 ? null : chat.id;
    this.#setEditing(false);
    this.composer.text = this.preferences.draft(this.#draftName);
    this.#refresh();
    this.scroll.toEnd();
    this.sidebar.refresh();
    this.notices.activity(null);
    if (!matchMedia('(pointer: coarse)').matches) this.composer.focus(); // on a phone it would open the keyboard
  }

  #refresh() {
    const run = this.#running.get(this.#chat.id)?.run ?? null;
    this.conversation.show(this.#chat, run);
    this.composer.setBusy(run !== null);
    this.#showMeter();
  }

  /** @param {string} id */
  #open(id) {
    const stored = this.store.load(id);
    const chat = this.#running.get(id)?.chat ?? (stored === null ? null : settle(stored));
    if (chat !== null) this.#show(chat);
    else this.sidebar.refresh(); // deleted in another tab
  }

  /** @param {string} id */
  #delete(id) {
    this.#running.get(id)?.run.stop();
    const chat = this.store.load(id);
    this.store.remove(id);
    this.preferences.saveDraft(id, '');
    if (id === this.#chat.id) this.#show(newChat());
    this.sidebar.refresh();
    if (chat === null) return;
    const undo = () => {
      this.store.save(settle(chat));
      this.sidebar.refresh();
    };
    this.notices.show(this.i18n.t('chat_deleted'), { label: this.i18n.t('undo'), act: undo });
  }

  /** @param {string} text */
  #send(text) {
    const chat = this.#chat;
    // A draft that was there before an edit comes back after it; one that is sent is none any more.
    const draft = this.#editing ? this.preferences.draft(this.#draftName) : '';
    this.preferences.saveDraft(this.#draftName, draft);
    if (this.#editing) chat.messages.length = chat.messages.map((message) => message.role).lastIndexOf('user');
    chat.messages.push({ role: 'user', content: text });
    if (chat.title === '' || chat.messages.length === 1) chat.title = titleOf(text);
    this.#setEditing(false);
    this.composer.text = draft;
    this.#answer();
  }

  /** Has the last question answered. */
  #answer() {
    const chat = this.#chat;
    const answer = newAnswer(this.#model);
    const messages = wireMessages(chat.messages);
    chat.messages.push(answer);
    chat.updated_ms = Date.now();
    const body = () => {
      answer.model = this.#model;
      return { model: answer.model, messages };
    };
    const key = () => this.preferences.key ?? '';
    const run = new AnswerRun({ api: this.api, status: this.status, key, body, answer });
    this.#running.set(chat.id, { run, chat });
    this.preferences.currentChat = chat.id;
    this.#save(chat);
    this.#refresh();
    this.scroll.toEnd();
    let phase = '';
    run.subscribe(() => {
      if (run.phase !== phase) this.#phaseChanged(chat, run);
      else if (Date.now() - this.#saved_ms > SAVE_EVERY_MS) this.#save(chat);
      phase = run.phase;
    });
    this.#phaseChanged(chat, run);
    void run.start();
  }

  /** @param {Chat} chat @param {AnswerRun} run */
  #phaseChanged(chat, run) {
    if (run.phase === 'ended') {
      this.#running.delete(chat.id);
      if (this.store.load(chat.id) !== null) this.#save(chat); // unless it was deleted meanwhile
      if (run.answer.status === 'failed') void this.status.refresh();
    }
    this.sidebar.refresh();
    if (chat.id !== this.#chat.id) return;
    this.#refresh();
    const card = byId('conversation').lastElementChild?.querySelector('.error-body');
    this.notices.stage(run, card?.textContent ?? '', this.i18n);
  }

  /** @param {import('./view_error.js').NextStep} step */
  #step(step) {
    if (step === 'new_key') this.#askKey(true);
    else if (step === 'new_chat') this.#show(newChat());
    else if (step === 'edit') this.#edit();
    else if (!this.#running.has(this.#chat.id)) void this.#retry();
  }

  async #retry() {
    const chat = this.#chat;
    const last = chat.messages.at(-1);
    if (last?.role !== 'assistant') return;
    if (last.error?.status === 404) await this.#loadModels();
    if (chat !== this.#chat || chat.messages.at(-1) !== last) return; // the reader went on meanwhile
    chat.messages.pop();
    this.#answer();
  }

  #edit() {
    const question = [...this.#chat.messages].reverse().find((message) => message.role === 'user');
    if (question === undefined || this.#running.has(this.#chat.id)) return;
    this.#setEditing(true);
    this.composer.text = question.content;
    this.composer.focus();
  }

  #cancelEdit() {
    this.#setEditing(false);
    this.composer.text = this.preferences.draft(this.#draftName);
    this.composer.focus();
  }

  /** @param {boolean} editing */
  #setEditing(editing) {
    this.#editing = editing;
    this.composer.setEditing(editing);
  }

  get #draftName() {
    return this.#chat.messages.length === 0 ? 'new' : this.#chat.id;
  }

  /** @param {string} text */
  #keepDraft(text) {
    if (!this.#editing) this.preferences.saveDraft(this.#draftName, text);
  }

  /** @param {Chat} chat */
  #save(chat) {
    this.#saved_ms = Date.now();
    const { stored, evicted } = this.store.save(chat);
    if (!stored) this.notices.show(this.i18n.t('not_stored'));
    else if (evicted > 0) this.notices.show(this.i18n.t('chats_evicted', { count: evicted }));
  }

  #settings() {
    const { preferences, i18n } = this;
    const { language, theme, remembered } = preferences;
    showSettings({
      dialog: byId('settings'),
      i18n,
      settings: { language, theme, remembered },
      onChange: (settings) => {
        preferences.language = settings.language;
        preferences.theme = settings.theme;
        if (settings.remembered !== remembered) this.#remember(settings.remembered);
        this.applyTheme();
        if (settings.language !== language) this.#applyLanguage();
        this.#settings();
      },
      onSignOut: () => {
        byId('settings').close();
        const onSignOut = (/** @type {boolean} */ deleteChats) => this.#signOut(deleteChats);
        askSignOut({ dialog: byId('sign-out'), i18n, remembered, onSignOut });
      },
    });
  }

  /** Key and chats move together between this tab and this computer. @param {boolean} remembered */
  #remember(remembered) {
    const before = this.store;
    this.preferences.signIn(this.preferences.key ?? '', remembered);
    this.store = new ChatStore(this.preferences.chatStorage);
    before.moveTo(this.store);
    this.sidebar.refresh();
  }

  /** @param {boolean} deleteChats */
  #signOut(deleteChats) {
    for (const { run } of this.#running.values()) run.stop();
    this.#running.clear();
    if (deleteChats) this.store.clear();
    this.preferences.signOut();
    this.preferences.forgetDrafts();
    this.#models = [];
    this.#pickedModel = null;
    this.#show(newChat());
    this.#askKey(false);
  }

  #applyLanguage() {
    const { i18n } = this;
    i18n.language = pickLanguage(this.preferences.language, navigator.languages);
    document.documentElement.lang = i18n.locale;
    i18n.apply(document);
    byId('jump').replaceChildren(icon('down'), h('span', {}, i18n.t('jump_to_latest')));
    this.sidebar.relabel();
    this.composer.relabel();
    this.composer.setEditing(this.#editing);
    this.conversation.clear();
    this.#refresh();
    this.#showStatus();
  }
}

new App().start();
