/** The card that says why something did not work, and what to do next. */

import type { JSX } from 'preact';
import type { TextKey } from '../i18n/index.js';
import { useStore } from '../state/store.js';
import { Icon } from './parts.js';

export interface Fault {
  code: string;
  detail: string;
  hint: string | null;
  status: number | null;
  retryAfterS: number | null;
}

export type NextStep = 'retry' | 'entry' | 'new_chat' | 'edit';

interface Explanation {
  title: TextKey;
  next: TextKey;
  steps: NextStep[];
}

const FILE_CODES = /^attachment_|^too_many_attachments$/;

/** What a fault means to the reader. Pure. */
export function explain({ code, status }: Pick<Fault, 'code' | 'status'>, byKey: boolean): Explanation {
  const say = (name: string, ...steps: NextStep[]): Explanation => ({
    title: `error_${name}` as TextKey,
    next: `error_${name}_next` as TextKey,
    steps,
  });
  if (code === 'network') return say('network', 'retry');
  if (code === 'interrupted') return say('interrupted', 'retry');
  if (FILE_CODES.test(code)) return say('file', 'edit');
  if (code === 'context_length_exceeded' || status === 413) return say('too_long', 'edit', 'new_chat');
  if (code === 'chat_full') return say('request', 'new_chat');
  if (status === 401) return say(byKey ? 'key' : 'session', 'entry');
  if (status === 403) return say('forbidden');
  if (status === 404) return say('gone', 'new_chat', 'retry');
  if (code === 'queue_full' || status === 503) return say('busy', 'retry');
  if (status === 429) return say('rate', 'retry');
  if (code === 'engine_lost' || code === 'generation_failed' || code === 'engine_died') return say('engine', 'retry');
  if (status === 400 || status === 409 || status === 422) return say('request', 'edit');
  return say('other', 'retry');
}

interface ProblemProps {
  fault: Fault;
  onStep: ((step: NextStep) => void) | null;
}

export function Problem({ fault, onStep }: ProblemProps): JSX.Element {
  const { i18n, session } = useStore();
  const { t } = i18n;
  const { title, next, steps } = explain(fault, session.byKey);
  const stepText: Record<NextStep, string> = {
    retry: t('error_retry'),
    entry: t(session.byKey ? 'error_new_key' : 'error_log_in'),
    new_chat: t('error_new_chat'),
    edit: t('error_edit'),
  };
  const advice =
    fault.retryAfterS !== null && (title === 'error_rate' || title === 'error_busy')
      ? t('error_rate_next_s', { time: i18n.duration(fault.retryAfterS * 1000) })
      : t(next);
  // The box's hints speak to programmers; where this page knows the next step itself, it names that instead.
  const hint = title === 'error_request' || title === 'error_other' || title === 'error_file' ? fault.hint : null;
  const meaning = i18n.meaning(fault.code);
  const said = [fault.detail, hint].filter(Boolean).join(' ');
  return (
    <div class="error-card" role="alert">
      <Icon name="warning" />
      <div class="error-body">
        <p class="error-title">{t(title)}</p>
        {meaning !== null && <p class="error-detail">{meaning}</p>}
        {said !== '' && (
          <p class="error-detail" lang={meaning === null ? undefined : 'en'}>
            {said}
          </p>
        )}
        <p class="error-next">{advice}</p>
        {onStep !== null && steps.length > 0 && (
          <div class="error-steps">
            {steps.map((step, index) => (
              <button
                key={step}
                type="button"
                class={index === 0 ? 'button' : 'button plain'}
                onClick={() => onStep(step)}
              >
                {stepText[step]}
              </button>
            ))}
          </div>
        )}
        <p class="error-code">{fault.status === null ? fault.code : `${fault.code} · HTTP ${fault.status}`}</p>
      </div>
    </div>
  );
}
