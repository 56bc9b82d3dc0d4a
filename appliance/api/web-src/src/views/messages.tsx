/** The conversation: questions, thinking, answers, branches. */

import type { JSX } from 'preact';
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';
import type { Attachment, Message } from '../api/types.js';
import { copyText } from '../markdown/enhance.js';
import type { LiveAnswer } from '../state/answer.js';
import type { TextKey } from '../i18n/index.js';
import { useStore } from '../state/store.js';
import { Markdown } from './markdown.js';
import { Icon, useNow } from './parts.js';
import { Problem, type NextStep } from './problem.js';

export function Question({ message }: { message: Message }): JSX.Element {
  const store = useStore();
  const { conversation, i18n } = store;
  const { t } = i18n;
  const [editing, setEditing] = useState(false);
  if (editing) return <QuestionEditor message={message} onClose={() => setEditing(false)} />;
  return (
    <article class="question" aria-label={t('you_said')}>
      <Files files={message.attachments} />
      {message.content !== '' && <div class="bubble">{message.content}</div>}
      <div class="foot-row">
        <Branches message={message} />
        <CopyButton text={message.content} />
        <button type="button" class="quiet" disabled={conversation.busy.value} onClick={() => setEditing(true)}>
          <Icon name="edit" />
          {t('edit')}
        </button>
      </div>
    </article>
  );
}

function QuestionEditor({ message, onClose }: { message: Message; onClose: () => void }): JSX.Element {
  const store = useStore();
  const { t } = store.i18n;
  const [text, setText] = useState(message.content);
  const field = useRef<HTMLTextAreaElement>(null);
  // Before the field is seen: an effect after the paint would move the cursor under a quick typist's first letters.
  useLayoutEffect(() => {
    const area = field.current!;
    area.focus();
    area.setSelectionRange(area.value.length, area.value.length);
  }, []);
  useLayoutEffect(() => {
    const area = field.current!;
    area.style.height = 'auto';
    area.style.height = `${area.scrollHeight + 2}px`;
  }, [text]);
  const send = (): void => {
    if (text.trim() === '') return;
    onClose();
    store.run(() => store.conversation.edit(message, text.trim()));
  };
  return (
    <form
      class="question editor"
      onSubmit={(event) => {
        event.preventDefault();
        send();
      }}
    >
      <textarea
        ref={field}
        aria-label={t('edit_label')}
        value={text}
        onInput={(event) => setText(event.currentTarget.value)}
        onKeyDown={(event) => {
          if (event.isComposing) return;
          if (event.key === 'Escape') onClose();
          if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) send();
        }}
      />
      <div class="editor-foot">
        <span class="facts">{t('edit_hint')}</span>
        <button type="button" class="button plain" onClick={onClose}>
          {t('cancel')}
        </button>
        <button type="submit" class="button" disabled={text.trim() === ''}>
          {t('send')}
        </button>
      </div>
    </form>
  );
}

function Files({ files }: { files: Attachment[] }): JSX.Element | null {
  const { i18n } = useStore();
  if (files.length === 0) return null;
  return (
    <ul class="files" aria-label={i18n.t('attachments')}>
      {files.map((file) => (
        <li key={file.id} class="file">
          <Icon name="file" />
          <span class="file-name">{file.name}</span>
          {file.tokens !== null && <span class="file-size">{i18n.t('attachment_tokens', { count: i18n.number(file.tokens) })}</span>}
        </li>
      ))}
    </ul>
  );
}

/** A question on its way: the box has not taken it yet. */
export function PendingQuestion({ content, files, note }: { content: string | null; files: Attachment[]; note: string }): JSX.Element {
  return (
    <>
      {content !== null && (
        <article class="question">
          <Files files={files} />
          {content !== '' && <div class="bubble">{content}</div>}
        </article>
      )}
      <p class="waiting" role="status">
        {note}
      </p>
    </>
  );
}

function Branches({ message }: { message: Message }): JSX.Element | null {
  const store = useStore();
  const { t } = store.i18n;
  const { conversation } = store;
  const siblings = conversation.tree.value.siblings(message);
  if (siblings.length < 2) return null;
  const at = siblings.findIndex((one) => one.id === message.id);
  const go = (to: number): void => store.run(() => conversation.show(siblings[to]!));
  return (
    <div class="branches" role="group" aria-label={t('branch', { number: at + 1, total: siblings.length })}>
      <button type="button" class="quiet" aria-label={t('branch_previous')} disabled={at === 0} onClick={() => go(at - 1)}>
        <Icon name="left" />
      </button>
      <span aria-hidden="true">
        {at + 1} / {siblings.length}
      </span>
      <button type="button" class="quiet" aria-label={t('branch_next')} disabled={at === siblings.length - 1} onClick={() => go(at + 1)}>
        <Icon name="right" />
      </button>
    </div>
  );
}

function CopyButton({ text }: { text: string }): JSX.Element {
  const { i18n } = useStore();
  return (
    <button type="button" class="quiet" onClick={(event) => void copyText(text, event.currentTarget, i18n.t)}>
      <Icon name="copy" />
      <span class="label">{i18n.t('copy')}</span>
    </button>
  );
}

interface AnswerProps {
  message: Message;
  /** Set while the answer is written; it stays the same element when it ends, so that nothing is built anew. */
  live: LiveAnswer | null;
  last: boolean;
}

export function Answer({ message, live, last }: AnswerProps): JSX.Element {
  const { i18n } = useStore();
  const { t } = i18n;
  void live?.version.value; // drawn again when the texts grow
  const phase = live?.phase.value ?? null;
  const now = useNow(phase !== null && phase !== 'answering');
  useAnnouncement(phase);
  const { reasoning, content } = live ?? message;
  const waits = phase === 'waiting' || phase === 'loading' || phase === 'queued';
  return (
    <article class="answer" aria-label={t('answer')} aria-busy={live !== null}>
      {live !== null && waits && (
        <p class="waiting" role="status">
          {waitText(live, now, i18n)}
        </p>
      )}
      <Thought
        reasoning={reasoning}
        running={phase === 'thinking'}
        ms={live === null ? message.thinking_ms : live.thoughtMs}
        tokens={(live === null ? message.usage : live.usage.value)?.reasoning ?? null}
      />
      {live !== null && phase === 'thinking' && <AnswerNow live={live} />}
      {content !== '' && <Markdown text={content} ended={live === null} />}
      {live !== null && !live.connected.value && (
        <p class="note" role="status">
          {t('reconnecting')}
        </p>
      )}
      {live === null && <AnswerEnd message={message} last={last} />}
    </article>
  );
}

function AnswerNow({ live }: { live: LiveAnswer }): JSX.Element {
  const store = useStore();
  const asked = live.answerNowAsked.value;
  return (
    <button type="button" class="button plain answer-now" disabled={asked} onClick={() => store.run(() => live.answerNow())}>
      {store.i18n.t(asked ? 'answer_now_sent' : 'answer_now')}
    </button>
  );
}

/** Says aloud what the model does now. */
function useAnnouncement(phase: string | null): void {
  const store = useStore();
  useEffect(() => {
    if (phase === 'thinking') store.announce(store.i18n.t('said_thinking'));
    if (phase === 'answering') store.announce(store.i18n.t('said_answering'));
  }, [phase]);
}

/** What stands below an answer that is over. */
function AnswerEnd({ message, last }: { message: Message; last: boolean }): JSX.Element {
  const store = useStore();
  const { conversation, i18n, router } = store;
  const { t } = i18n;
  const step = (next: NextStep): void => {
    if (next === 'new_chat') router.go('#/');
    else store.run(() => conversation.regenerate(message));
  };
  return (
    <>
      <Notes message={message} />
      {(message.state === 'error' || message.state === 'interrupted') && (
        <Problem
          fault={{
            code: message.state === 'interrupted' ? 'interrupted' : (message.error?.code ?? 'generation_failed'),
            detail: message.error?.message ?? '',
            hint: null,
            status: null,
            retryAfterS: null,
          }}
          onStep={last ? step : null}
        />
      )}
      <div class="foot-row">
        <Branches message={message} />
        {message.content !== '' && <CopyButton text={message.content} />}
        <button
          type="button"
          class="quiet"
          disabled={conversation.busy.value}
          onClick={() => store.run(() => conversation.regenerate(message))}
        >
          <Icon name="again" />
          {t('regenerate')}
        </button>
        <Facts message={message} />
      </div>
    </>
  );
}

function Notes({ message }: { message: Message }): JSX.Element | null {
  const { i18n } = useStore();
  const keys: TextKey[] = [];
  const empty = message.content === '';
  if (message.state === 'stopped') keys.push(empty && message.reasoning !== '' ? 'stopped_thinking' : 'stopped');
  else if (message.finish_reason === 'length') keys.push(empty ? 'cut_while_thinking' : 'cut_by_length');
  else if (message.state === 'done' && empty) keys.push('empty_answer');
  const end = message.thinking_end;
  if (end === 'budget' || end === 'loop' || end === 'asked') keys.unshift(`thinking_end_${end}`);
  if (keys.length === 0) return null;
  return (
    <>
      {keys.map((key) => (
        <p key={key} class="note">
          {i18n.t(key)}
        </p>
      ))}
    </>
  );
}

/** Tokens of the answer and how fast it was written; who wrote it, when that is not plain. */
function Facts({ message }: { message: Message }): JSX.Element | null {
  const { i18n, session } = useStore();
  const { usage } = message;
  const parts: string[] = [];
  if (message.model !== null && session.models.value.length > 1) parts.push(message.model);
  if (usage !== null && usage.completion !== null) {
    parts.push(i18n.t('tokens', { count: i18n.number(usage.completion - (usage.reasoning ?? 0)) }));
    if (message.total_ms !== null && message.total_ms > 0) {
      const speed = usage.completion / (message.total_ms / 1000);
      parts.push(i18n.t('tokens_per_s', { speed: speed < 10 ? speed.toFixed(1) : i18n.number(Math.round(speed)) }));
    }
  }
  return parts.length === 0 ? null : <span class="facts">{parts.join(' · ')}</span>;
}

interface ThoughtProps {
  reasoning: string;
  running: boolean;
  ms: number | null;
  tokens: number | null;
}

/** The quiet line over an answer; what the model thought is behind it. */
function Thought({ reasoning, running, ms, tokens }: ThoughtProps): JSX.Element | null {
  const { i18n } = useStore();
  const { t } = i18n;
  const [open, setOpen] = useState(false);
  if (reasoning === '') return null;
  const said = running
    ? t('thinking_time', { time: i18n.duration(Math.max(ms ?? 0, 1000)) })
    : ms === null
      ? t('thought_unknown')
      : t('thought', { time: i18n.duration(ms) });
  const line = tokens === null || tokens === 0 ? said : `${said} · ${t('tokens', { count: i18n.number(tokens) })}`;
  return (
    <div class="thought">
      <button type="button" class="thought-toggle" aria-expanded={open} onClick={() => setOpen(!open)}>
        <Icon name="right" />
        {line}
      </button>
      {open && <Markdown text={reasoning} ended={!running} class="thought-text" />}
    </div>
  );
}

function waitText(live: LiveAnswer, now: number, i18n: ReturnType<typeof useStore>['i18n']): string {
  const phase = live.phase.value;
  if (phase === 'loading') {
    const fraction = live.loadFraction.value;
    return fraction === null
      ? i18n.t('answer_loading')
      : i18n.t('answer_loading_percent', { percent: Math.round(fraction * 100) });
  }
  const queued = live.queued.value;
  if (phase !== 'queued' || queued === null)
    return i18n.t('waiting_time', { time: i18n.duration(Math.max(now - live.startedAt, 1000)) });
  const { position, wait_s } = queued;
  if (wait_s === null) return i18n.t('queued', { position });
  const time = i18n.duration(Math.max(wait_s, 1) * 1000);
  return position <= 1 ? i18n.t('queued_soon', { time }) : i18n.t('queued_wait', { position, time });
}
