/** The whole page: which of its parts is shown. */

import type { ComponentType, JSX } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import { loadStyle } from '../markdown/style.js';
import { chatHref } from '../state/route.js';
import { useStore } from '../state/store.js';
import { ChatView, Status } from './chat.js';
import { Entry, NewPassword } from './entry.js';
import { Icon, IconButton } from './parts.js';
import { Sidebar } from './sidebar.js';

export function App(): JSX.Element {
  const { session, toast, announcement, i18n } = useStore();
  const { t } = i18n;
  const phase = session.phase.value;
  return (
    <>
      {phase === 'starting' && <Quiet text={t('starting')} />}
      {phase === 'unreachable' && <Quiet text={t('unreachable')} />}
      {phase === 'entry' && <Entry />}
      {phase === 'password' && <NewPassword />}
      {phase === 'inside' && <Inside />}
      <div class="toast" role="status" hidden={toast.value === null}>
        <span>{toast.value}</span>
        <button type="button" class="quiet" aria-label={t('close')} onClick={() => (toast.value = null)}>
          <Icon name="close" />
        </button>
      </div>
      <div class="visually-hidden" aria-live="polite" id="announcer">
        {announcement.value}
      </div>
    </>
  );
}

function Quiet({ text }: { text: string }): JSX.Element {
  return (
    <main class="entry">
      <p class="quiet-note" role="status">
        {text}
      </p>
    </main>
  );
}

function Inside(): JSX.Element {
  const store = useStore();
  const { router, conversation, library, health, i18n, session } = store;
  const { t } = i18n;
  const [menu, setMenu] = useState(false);
  const route = router.route.value;
  const chatId = route.view === 'chat' ? route.id : null;

  useEffect(() => {
    health.start();
    if (session.canChat.value) void library.load();
    return () => {
      health.stop();
      library.clear();
      conversation.close();
    };
  }, []);
  useEffect(() => {
    if (route.view === 'chat') void conversation.open(chatId);
  }, [route.view, chatId]);
  // Who may look but not ask is led to what they may see.
  useEffect(() => {
    if (!session.canChat.value && session.canOperate.value && route.view === 'chat') router.go('#/operator/cards', true);
  }, [route.view]);
  useFreshModels();
  useTitle();

  const closeMenu = (): void => {
    if (menu) document.getElementById('open-sidebar')?.querySelector('button')?.focus();
    setMenu(false);
  };
  return (
    <div class="app">
      <a
        class="skip"
        href="#input"
        onClick={(event) => {
          event.preventDefault();
          document.getElementById('input')?.focus();
        }}
      >
        {t('skip_to_input')}
      </a>
      <Sidebar open={menu} onClose={closeMenu} />
      <main class="main">
        <h1 class="visually-hidden">{conversation.summary.value?.title || t('product')}</h1>
        <header class="topbar">
          <span id="open-sidebar">
            <IconButton icon="menu" label={t('open_sidebar')} class="narrow-only" expanded={menu} controls="sidebar" onClick={() => setMenu(true)} />
          </span>
          <Status />
          <a class="icon-button narrow-only" href={chatHref(null)} aria-label={t('new_chat')} title={t('new_chat')}>
            <Icon name="plus" />
          </a>
        </header>
        {route.view === 'operator' ? <LateOperator tab={route.tab} /> : <ChatView />}
      </main>
    </div>
  );
}

/** What models there are is asked again when it may have changed: one was loaded, or the operator area is left. */
function useFreshModels(): void {
  const { router, health, session, conversation } = useStore();
  const readiness = health.readiness.value;
  const now = [router.route.value.view, readiness?.model, readiness?.state, conversation.ended.value !== null].join(' ');
  const before = useRef<string | null>(null);
  useEffect(() => {
    if (readiness === null) return;
    if (before.current !== null && before.current !== now) void session.refresh();
    before.current = now;
  }, [now]);
}

/** The tab's title says how the answer does, for people who look elsewhere meanwhile. */
function useTitle(): void {
  const { conversation, i18n, announce } = useBound();
  const { t } = i18n;
  const live = conversation.live.value;
  const ended = conversation.ended.value;
  const phase = live?.phase.value ?? null;
  const [unseen, setUnseen] = useState(false);
  useEffect(() => {
    if (ended === null) return undefined;
    announce(t(ended.message.state === 'stopped' ? 'said_stopped' : 'said_done'));
    if (!document.hidden) return undefined;
    setUnseen(true);
    const seen = (): void => {
      if (!document.hidden) setUnseen(false);
    };
    document.addEventListener('visibilitychange', seen);
    return () => document.removeEventListener('visibilitychange', seen);
  }, [ended]);
  const word =
    phase === 'thinking'
      ? t('title_thinking')
      : phase === 'answering'
        ? t('title_answering')
        : phase !== null || conversation.pending.value !== null
          ? t('title_waiting')
          : unseen
            ? t('title_done')
            : conversation.summary.value?.title;
  useEffect(() => {
    document.title = word ? `${word} · R1 Box` : 'R1 Box';
  }, [word]);
}

function useBound(): { conversation: ReturnType<typeof useStore>['conversation']; i18n: ReturnType<typeof useStore>['i18n']; announce: (text: string) => void } {
  const store = useStore();
  return { conversation: store.conversation, i18n: store.i18n, announce: (text) => store.announce(text) };
}

/** The operator area comes when it is asked for: most people never see it. */
function LateOperator({ tab }: { tab: string }): JSX.Element {
  const { i18n } = useStore();
  const [view, setView] = useState<{ Operator: ComponentType<{ tab: string }> } | 'failed' | null>(null);
  useEffect(() => {
    Promise.all([import('../operator/operator.js'), loadStyle('operatorStyle')]).then(
      ([module]) => setView({ Operator: module.Operator }),
      () => setView('failed'),
    );
  }, []);
  if (view === null) return <p class="waiting padded">{i18n.t('working')}</p>;
  if (view === 'failed') return <p class="waiting padded">{i18n.t('error_part')}</p>;
  return <view.Operator tab={tab} />;
}
