/**
 * The card that says why there is no answer, and what to do next.
 *
 * @typedef {import('./chat.js').AnswerError} AnswerError
 * @typedef {import('./i18n.js').TextKey} TextKey
 * @typedef {'retry' | 'new_key' | 'new_chat' | 'edit'} NextStep
 * @typedef {{title: TextKey, next: TextKey, steps: NextStep[]}} Explanation
 */

import { duration } from './format.js';
import { h, icon } from './dom.js';

/** @type {Record<NextStep, TextKey>} */
const STEP_TEXT = {
  retry: 'error_retry',
  new_key: 'error_new_key',
  new_chat: 'error_new_chat',
  edit: 'error_edit',
};

/** What an error means to the reader. Pure. @param {AnswerError} error @returns {Explanation} */
export function explain({ code, status }) {
  if (code === 'network') return { title: 'error_network', next: 'error_network_next', steps: ['retry'] };
  if (code === 'stream_ended') return { title: 'error_ended', next: 'error_ended_next', steps: ['retry'] };
  if (code === 'model_failed') return { title: 'state_failed', next: 'state_failed_hint', steps: ['retry'] };
  if (status === 401 || status === 403)
    return { title: 'error_key', next: 'error_key_next', steps: ['new_key', 'retry'] };
  if (code === 'context_length_exceeded' || status === 413) {
    return { title: 'error_too_long', next: 'error_too_long_next', steps: ['new_chat', 'edit'] };
  }
  if (status === 404) return { title: 'error_model', next: 'error_model_next', steps: ['retry'] };
  if (code === 'queue_full') return { title: 'error_busy', next: 'error_rate_next', steps: ['retry'] };
  if (status === 429) return { title: 'error_rate', next: 'error_rate_next', steps: ['retry'] };
  if (status === 503) return { title: 'error_busy', next: 'error_busy_next', steps: ['retry'] };
  if (status === 400 || status === 422) return { title: 'error_request', next: 'error_request_next', steps: ['edit'] };
  if (status === null && code !== 'bad_answer' && code !== 'page_error') {
    return { title: 'error_engine', next: 'error_engine_next', steps: ['retry'] }; // the error came inside the stream
  }
  return { title: 'error_other', next: 'error_other_next', steps: ['retry'] };
}

/**
 * @param {object} options
 * @param {AnswerError} options.error
 * @param {import('./i18n.js').I18n} options.i18n
 * @param {((step: NextStep) => void) | null} options.onStep null when the conversation has gone on since
 */
export function errorCard({ error, i18n, onStep }) {
  const { title, next, steps } = explain(error);
  const wait = error.retry_after_s === null ? null : spoken(error.retry_after_s * 1000, i18n);
  const advice =
    wait !== null && next === 'error_rate_next' ? i18n.t('error_rate_next_s', { time: wait }) : i18n.t(next);
  // The box's hints speak to programmers; where this page knows the next step itself, it names that instead.
  const hint = title === 'error_request' || title === 'error_other' ? error.hint : null;
  const said = [error.detail, hint].filter(Boolean).join(' ');
  const code = error.status === null ? error.code : `${error.code} · HTTP ${error.status}`;
  return h(
    'div.error-card',
    {},
    icon('warning'),
    h(
      'div.error-body',
      {},
      h('p.error-title', {}, i18n.t(title)),
      said === '' ? null : h('p.error-detail', {}, said),
      h('p.error-next', {}, advice),
      onStep === null
        ? null
        : h(
            'div.error-steps',
            {},
            ...steps.map((step, index) =>
              h(
                index === 0 ? 'button.button' : 'button.button.plain',
                { type: 'button', onclick: () => onStep(step) },
                i18n.t(STEP_TEXT[step]),
              ),
            ),
          ),
      h('p.error-code', {}, code),
    ),
  );
}

/** A duration in the reader's language. @param {number} ms @param {import('./i18n.js').I18n} i18n */
export function spoken(ms, i18n) {
  if (ms < 1000) return i18n.t('under_a_second');
  const { minutes, seconds } = duration(ms);
  return minutes === 0 ? i18n.t('seconds', { seconds }) : i18n.t('minutes', { minutes, seconds });
}
