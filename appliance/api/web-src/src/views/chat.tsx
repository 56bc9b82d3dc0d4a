/** The right side: state of the model, the conversation, the field. */

import type { JSX } from 'preact';
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';
import type { TextKey } from '../i18n/index.js';
import { chatHref } from '../state/route.js';
import { useStore } from '../state/store.js';
import { ComposerView } from './composer.js';
import { Answer, PendingQuestion, Question } from './messages.js';
import { Icon } from './parts.js';
import { Problem, type NextStep } from './problem.js';

/** The reader counts as being at the end within this distance of it. */
const NEAR_PX = 48;

export function ChatView(): JSX.Element {
  const store = useStore();
  const { composer, i18n, conversation } = store;
  const { t } = i18n;
  const scroll = useRef<HTMLDivElement>(null);
  const content = useRef<HTMLDivElement>(null);
  const follow = useRef(true);
  const lastTop = useRef(0);
  const [away, setAway] = useState(false);
  const [dropping, setDropping] = useState(false);
  const chatId = conversation.chatId.value;

  const toEnd = (): void => {
    const box = scroll.current;
    if (box === null) return; // the view is gone, its observer was told once more
    box.scrollTop = box.scrollHeight;
    lastTop.current = box.scrollTop;
    follow.current = true;
    setAway(false);
  };
  useLayoutEffect(toEnd, [chatId, conversation.loading.value]);
  useEffect(() => {
    // The answer grows below; only a reader who is at the end is taken along.
    const observer = new ResizeObserver(() => {
      const box = scroll.current;
      if (follow.current) toEnd();
      else if (box !== null) setAway(box.scrollHeight - box.scrollTop - box.clientHeight > NEAR_PX);
    });
    observer.observe(content.current!);
    observer.observe(scroll.current!);
    return () => observer.disconnect();
  }, []);
  const onScroll = (): void => {
    const box = scroll.current!;
    const distance = box.scrollHeight - box.scrollTop - box.clientHeight;
    if (box.scrollTop < lastTop.current - 1 && distance > 4) follow.current = false;
    else if (distance <= NEAR_PX) follow.current = true;
    lastTop.current = box.scrollTop;
    setAway(!follow.current && distance > NEAR_PX);
  };
  const empty = chatId === null && conversation.pending.value === null && conversation.refusal.value === null;
  return (
    <div
      class="chat"
      onDragOver={(event) => {
        if (!event.dataTransfer?.types.includes('Files')) return;
        event.preventDefault();
        setDropping(true);
      }}
      onDragLeave={(event) => {
        if (event.currentTarget === event.target) setDropping(false);
      }}
      onDrop={(event) => {
        event.preventDefault();
        setDropping(false);
        const files = event.dataTransfer?.files;
        if (files) store.run(() => composer.attach(files));
      }}
    >
      <Banner />
      <div class="scroll" ref={scroll} onScroll={onScroll} tabIndex={-1}>
        <section class={empty ? 'conversation empty' : 'conversation'} ref={content} aria-label={t('conversation')}>
          {empty ? <Welcome /> : <Messages />}
        </section>
      </div>
      <div class="dock">
        {away && (
          <button type="button" class="jump" onClick={toEnd}>
            <Icon name="down" />
            {t('jump_to_latest')}
          </button>
        )}
        <ComposerView onSend={toEnd} />
        <p class="disclaimer">{t('disclaimer')}</p>
      </div>
      {dropping && <div class="drop">{t('drop_here')}</div>}
    </div>
  );
}

function Messages(): JSX.Element {
  const store = useStore();
  const { conversation, composer, health, i18n, router } = store;
  const { t } = i18n;
  const path = conversation.path.value;
  const live = conversation.live.value;
  const pending = conversation.pending.value;
  const refusal = conversation.refusal.value;
  const loadError = conversation.loadError.value;
  const shown = pending === null && refusal === null ? path : upTo(path, (pending ?? refusal!.pending).parentId);

  const step = (next: NextStep): void => {
    if (next === 'retry') store.run(() => conversation.retry());
    else if (next === 'edit') {
      composer.takeBack();
      document.getElementById('input')?.focus();
    } else if (next === 'new_chat') {
      composer.takeBack();
      router.go(chatHref(null));
    } else store.run(() => store.session.logOut());
  };
  return (
    <>
      {conversation.loading.value && path.length === 0 && <p class="waiting">{t('loading_chat')}</p>}
      {loadError !== null && (
        <Problem
          fault={loadError}
          onStep={(next) => (next === 'new_chat' ? router.go(chatHref(null)) : store.run(() => conversation.reload()))}
        />
      )}
      {shown.map((message, index) =>
        message.role === 'user' ? (
          <Question key={message.id} message={message} />
        ) : (
          <Answer
            key={message.id}
            message={message}
            live={live?.message.id === message.id ? live : null}
            last={index === path.length - 1}
          />
        ),
      )}
      {pending !== null && (
        <PendingQuestion content={pending.content} files={pending.attachments} note={pendingText()} />
      )}
      {refusal !== null && (
        <>
          {refusal.pending.content !== null && (
            <article class="question">
              <div class="bubble">{refusal.pending.content}</div>
            </article>
          )}
          <Problem fault={refusal.error} onStep={step} />
        </>
      )}
    </>
  );

  function pendingText(): string {
    if (pending?.why === 'busy') return t('retrying_busy');
    if (pending?.why === 'failed') return t('retrying_failed');
    if (pending?.why === 'stopped') return t('retrying_stopped');
    if (pending?.why !== 'loading') return t('sending');
    const fraction = health.readiness.value?.load_fraction ?? null;
    return fraction === null ? t('retrying_loading') : t('retrying_loading_percent', { percent: Math.round(fraction * 100) });
  }
}

/** The messages that stay while another branch is begun below `parentId`. */
function upTo<M extends { id: number }>(path: M[], parentId: number | null): M[] {
  if (parentId === null) return [];
  const at = path.findIndex((message) => message.id === parentId);
  return at < 0 ? path : path.slice(0, at + 1);
}

function Welcome(): JSX.Element {
  const { composer, i18n, session } = useStore();
  const { t } = i18n;
  if (session.modelsKnown.value && session.models.value.length === 0) {
    const may = session.may('admin:write');
    return (
      <div class="welcome">
        <h2>{t('no_model')}</h2>
        <p>{t(may ? 'no_model_next' : 'no_model_other')}</p>
        {may && (
          <a class="button" href="#/operator/models">
            {t('no_model_choose')}
          </a>
        )}
      </div>
    );
  }
  return (
    <div class="welcome">
      <h2>{t('welcome')}</h2>
      <p>{t('welcome_note')}</p>
      <div class="examples">
        {([1, 2, 3] as const).map((number) => (
          <button
            key={number}
            type="button"
            class="example"
            onClick={() => {
              composer.write(t(`example_${number}_text` as TextKey));
              document.getElementById('input')?.focus();
            }}
          >
            {t(`example_${number}` as TextKey)}
          </button>
        ))}
      </div>
    </div>
  );
}

const STATE_TEXT: Record<string, TextKey> = {
  ready: 'state_ready',
  starting: 'state_loading',
  stopped: 'state_stopped',
  draining: 'state_draining',
  stopping: 'state_draining',
  failed: 'state_failed',
  unreachable: 'state_unreachable',
};

/** The model's name and how it does, in the top bar. */
export function Status(): JSX.Element {
  const { health, i18n, session } = useStore();
  const { t } = i18n;
  const readiness = health.readiness.value;
  const state = readiness?.state ?? 'connecting';
  const fraction = state === 'starting' ? (readiness?.load_fraction ?? null) : null;
  const percent = fraction === null ? null : Math.round(fraction * 100);
  const model = session.models.value.find((one) => one.id === readiness?.model);
  const text = percent === null ? t(STATE_TEXT[state] ?? 'state_connecting') : t('state_loading_percent', { percent });
  return (
    <div class="status" role="status">
      <span class={`dot ${state}`} />
      {readiness?.model && <span class="model-name">{model?.name ?? readiness.model}</span>}
      {state !== 'ready' && <span class="state-text">{text}</span>}
      {state === 'ready' && <span class="visually-hidden">{text}</span>}
      {percent !== null && (
        <progress class="progress" max={100} value={percent} aria-label={t('state_loading')}>
          {percent} %
        </progress>
      )}
    </div>
  );
}

function Banner(): JSX.Element | null {
  const { health, i18n } = useStore();
  const { t } = i18n;
  const readiness = health.readiness.value;
  if (readiness?.state !== 'failed' && readiness?.state !== 'unreachable') return null;
  const failed = readiness.state === 'failed';
  return (
    <div class="banner" role="status">
      <Icon name="warning" />
      <div>
        <strong>{t(failed ? 'state_failed' : 'state_unreachable')}</strong>
        {readiness.error !== null && <p>{readiness.error}</p>}
        <p>{t(failed ? 'state_failed_hint' : 'state_unreachable_hint')}</p>
      </div>
    </div>
  );
}
