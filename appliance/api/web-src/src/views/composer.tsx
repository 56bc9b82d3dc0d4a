/** The field one writes in, with files, model, effort and the context meter. */

import type { JSX } from 'preact';
import { useLayoutEffect, useRef } from 'preact/hooks';
import type { ApiError } from '../api/errors.js';
import { EN } from '../i18n/en.js';
import type { TextKey } from '../i18n/index.js';
import { useStore } from '../state/store.js';
import { Icon, IconButton } from './parts.js';

const ACCEPT = '.txt,.md,.csv,.tsv,.json,.jsonl,.xml,.yaml,.yml,.html,.log,.ini,.toml,.py,.js,.ts,.c,.cpp,.h,.java,.go,.rs,.sql,.sh,.tex,.pdf,text/*,application/pdf';

export function ComposerView({ onSend }: { onSend: () => void }): JSX.Element {
  const store = useStore();
  const { composer, conversation, i18n } = store;
  const { t } = i18n;
  const area = useRef<HTMLTextAreaElement>(null);
  const picker = useRef<HTMLInputElement>(null);
  const busy = conversation.busy.value;
  const chatId = conversation.chatId.value;
  const text = composer.text.value;

  useLayoutEffect(() => {
    const field = area.current!;
    field.style.height = 'auto';
    field.style.height = `${field.scrollHeight}px`;
  }, [text]);
  // On a phone the focus would bring up the keyboard over what one wants to read. A new chat gets its id when the box has
  // answered: whoever is writing somewhere else by then (a search, a title) goes on there.
  useLayoutEffect(() => {
    const isElsewhere = document.activeElement?.matches('input, textarea, select, dialog *') ?? false;
    if (!isElsewhere && !matchMedia('(pointer: coarse)').matches) area.current?.focus();
  }, [chatId]);

  const send = (): void => {
    if (!composer.ready) return;
    store.run(() => composer.send());
    onSend();
  };
  const stop = (): void => {
    if (conversation.live.value !== null) store.run(() => conversation.live.value!.stop());
    else composer.takeBack();
    area.current?.focus();
  };
  const attach = (files: FileList | null | undefined): void => {
    if (files && files.length > 0) store.run(() => composer.attach(files));
  };
  return (
    <form
      class="composer"
      onSubmit={(event) => {
        event.preventDefault();
        send();
      }}
      onClick={(event) => {
        if (event.target === event.currentTarget) area.current?.focus();
      }}
    >
      <FileChips />
      <textarea
        id="input"
        ref={area}
        rows={1}
        autoComplete="off"
        enterkeyhint="send"
        aria-label={t('message')}
        placeholder={t('placeholder')}
        value={text}
        onInput={(event) => composer.write(event.currentTarget.value)}
        onPaste={(event) => {
          const files = event.clipboardData?.files;
          if (files && files.length > 0) {
            event.preventDefault();
            attach(files);
          }
        }}
        onKeyDown={(event) => {
          if (event.isComposing || event.keyCode === 229) return;
          if (event.key === 'Escape' && busy) stop();
          // On a touch keyboard Enter makes a new line; the button sends.
          if (event.key === 'Enter' && !event.shiftKey && !matchMedia('(pointer: coarse)').matches) {
            event.preventDefault();
            send();
          }
        }}
      />
      <div class="composer-row">
        <input
          ref={picker}
          type="file"
          multiple
          hidden
          accept={ACCEPT}
          onChange={(event) => {
            attach(event.currentTarget.files);
            event.currentTarget.value = '';
          }}
        />
        <IconButton icon="clip" label={t('attach')} onClick={() => picker.current?.click()} />
        <ModelPicker />
        <EffortPicker />
        <Meter />
        {busy ? (
          // A node of its own: the click that makes it the button that sends must not send.
          <button key="stop" type="button" class="send stop" aria-label={t('stop')} title={t('stop')} disabled={conversation.live.value?.stopping.value} onClick={stop}>
            <Icon name="stop" />
          </button>
        ) : (
          <button key="send" type="submit" class="send" aria-label={t('send')} title={t('send_hint')} disabled={!composer.ready}>
            <Icon name="send" />
          </button>
        )}
      </div>
    </form>
  );
}

function FileChips(): JSX.Element | null {
  const store = useStore();
  const { composer, i18n, session } = store;
  const { t } = i18n;
  const { value: files } = composer.files;
  const { value: inWork } = composer.inWork;
  const whyNot = (error: ApiError): string => {
    const most = session.limits.value?.attachment_bytes ?? 0;
    if (error.code === 'file_too_large') return t('attachment_too_large', { size: Math.floor(most / 2 ** 20) });
    if (error.code === 'network') return t('error_network');
    return i18n.meaning(error.code) ?? (error.detail || t('error_file_next'));
  };
  if (files.length === 0 && inWork.length === 0) return null;
  return (
    <ul class="files" aria-label={t('attachments')}>
      {files.map((file) => (
        <li key={file.id} class="file">
          <Icon name="file" />
          <span class="file-name">{file.name}</span>
          {file.tokens !== null && <span class="file-size">{t('attachment_tokens', { count: i18n.number(file.tokens) })}</span>}
          <IconButton icon="close" class="small" label={t('attachment_remove', { name: file.name })} onClick={() => store.run(() => composer.detach(file.id))} />
        </li>
      ))}
      {inWork.map((file) => (
        <li key={file.key} class={file.error === null ? 'file working' : 'file failed'} role={file.error === null ? 'status' : 'alert'}>
          <Icon name={file.error === null ? 'file' : 'warning'} />
          <span class="file-name">
            {file.error === null
              ? t('attaching', { name: file.name })
              : [`${t('attachment_failed', { name: file.name })}:`, whyNot(file.error), file.error.hint].filter(Boolean).join(' ')}
          </span>
          {file.error !== null && (
            <IconButton icon="close" class="small" label={t('error_dismiss')} onClick={() => composer.dismiss(file.key)} />
          )}
        </li>
      ))}
    </ul>
  );
}

function ModelPicker(): JSX.Element | null {
  const { session, prefs, i18n } = useStore();
  const models = session.models.value;
  if (models.length < 2) return null;
  const chosen = session.model.value!;
  return (
    <select class="pick" aria-label={i18n.t('model')} title={i18n.t('model')} value={chosen.id} onChange={(event) => (prefs.model.value = event.currentTarget.value)}>
      {models.map((model) => (
        <option key={model.id} value={model.id}>
          {[model.name ?? model.id, model.quantization].filter(Boolean).join(' ')}
        </option>
      ))}
    </select>
  );
}

function EffortPicker(): JSX.Element | null {
  const { session, prefs, i18n } = useStore();
  const { t } = i18n;
  const model = session.model.value;
  if (model === null || model.efforts.length === 0) return null;
  const value = prefs.effort.value !== null && model.efforts.includes(prefs.effort.value) ? prefs.effort.value : '';
  const word = (effort: string): string => (`effort_${effort}` in EN ? t(`effort_${effort}` as TextKey) : effort);
  return (
    <select class="pick" aria-label={t('effort')} title={t('effort')} value={value} onChange={(event) => (prefs.effort.value = event.currentTarget.value || null)}>
      <option value="">{t('effort_default')}</option>
      {model.efforts.map((effort) => (
        <option key={effort} value={effort}>
          {word(effort)}
        </option>
      ))}
    </select>
  );
}

/** "3.1k of 16k tokens", counted by the box before anything is sent. */
function Meter(): JSX.Element {
  const { composer, conversation, i18n } = useStore();
  const { t } = i18n;
  const count = composer.count.value;
  const usage = conversation.path.value.at(-1)?.usage ?? null;
  // While an answer is written, and where nothing counts, the last answer's own figures stand.
  const used = count?.prompt_tokens ?? (usage === null ? null : (usage.prompt ?? 0) + (usage.completion ?? 0) - (usage.reasoning ?? 0));
  const total = composer.contextTokens;
  if (used === null) return <span class="meter" />;
  if (total === null) return <span class="meter" title={t('context_title')}>{t('context_used', { used: i18n.short(used) })}</span>;
  const over = count !== null && !count.fits;
  const part = Math.min(used / total, 1);
  return (
    <span class={over || part > 0.9 ? 'meter nearly-full' : 'meter'} title={t('context_title')}>
      <svg class="meter-bar" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">
        <rect class="meter-fill" width={Math.max(part * 100, 2)} height="10" />
      </svg>
      {over && used > total
        ? t('context_over', { over: i18n.number(used - total) })
        : t('context_meter', { used: i18n.short(used), total: i18n.short(total) })}
    </span>
  );
}
