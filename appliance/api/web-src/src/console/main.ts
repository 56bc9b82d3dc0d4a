/** The operator's console in this window: a terminal whose program runs on the box, for the person who has logged in.
 *
 * The console is the answer to one request, a stream of what it shows; keys go in requests of their own, one after the
 * other, so that none overtakes another. When the page is closed the stream breaks, and the box ends the console.
 */

import { FitAddon } from '@xterm/addon-fit';
import { Unicode11Addon } from '@xterm/addon-unicode11';
import { Terminal } from '@xterm/xterm';
import '@xterm/xterm/css/xterm.css';
import { ApiError, asApiError } from '../api/errors.js';
import { Http } from '../api/http.js';
import { readEvents } from '../api/sse.js';
import type { LanguageCode, Me } from '../api/types.js';
import './console.css';
import { type Word, isWord, wordsOf } from './words.js';

const LEAST = { columns: 40, rows: 12 };
const MOST = { columns: 500, rows: 200 };
const MOST_KEYS = 60_000;
/** Textual's own names for what the box sends: its console's background, dark and light. */
const PAPER = { dark: { background: '#11151a', foreground: '#d8dee9' }, light: { background: '#fbfbf9', foreground: '#1b2129' } };

interface Fact {
  id?: string;
  show?: string;
  ended?: string;
}

interface Input {
  keys?: string;
  columns?: number;
  rows?: number;
  focused?: boolean;
}

const element = <T extends HTMLElement>(id: string): T => {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`no #${id}`);
  return found as T;
};
const clamp = (value: number, least: number, most: number): number => Math.min(Math.max(value, least), most);

const isLight = document.documentElement.dataset.theme === 'light';
const language: LanguageCode = document.documentElement.lang.startsWith('zh') ? 'zh' : 'en';
const words = wordsOf(language);
const http = new Http(new URL('..', location.href).href);

const terminal = new Terminal({
  allowProposedApi: true, // the widths of characters
  cursorBlink: false,
  fontFamily: "ui-monospace, 'SF Mono', 'Cascadia Mono', Consolas, 'Noto Sans Mono', 'DejaVu Sans Mono', Menlo, 'Noto Sans Mono CJK SC', monospace",
  fontSize: 15,
  scrollback: 0,
  theme: PAPER[isLight ? 'light' : 'dark'],
});
const fit = new FitAddon();

let open: string | null = null;
let waiting: Input = {};
let sending = false;

/** Send what has come together since the last request, one request at a time. */
async function send(): Promise<void> {
  if (sending) return;
  sending = true;
  try {
    while (open !== null && Object.keys(waiting).length > 0) {
      const keys = waiting.keys ?? '';
      const now: Input = keys.length > MOST_KEYS ? { ...waiting, keys: keys.slice(0, MOST_KEYS) } : waiting;
      waiting = keys.length > MOST_KEYS ? { keys: keys.slice(MOST_KEYS) } : {};
      await http.done(`api/console/terminals/${open}/input`, { method: 'POST', json: now });
    }
  } catch (error) {
    // The stream says why it ended; here only what it cannot know.
    if (asApiError(error).code !== 'no_such_console') waiting = {};
  } finally {
    sending = false;
  }
}

const put = (input: Input): void => {
  waiting = { ...waiting, ...input, keys: (waiting.keys ?? '') + (input.keys ?? '') };
  if (waiting.keys === '') delete waiting.keys;
  void send();
};

const size = (): { columns: number; rows: number } => ({
  columns: clamp(terminal.cols, LEAST.columns, MOST.columns),
  rows: clamp(terminal.rows, LEAST.rows, MOST.rows),
});

function say(message: string, hint = '', again = true): void {
  element('message').textContent = message;
  element('hint').textContent = hint;
  element('again').hidden = !again;
  element('said').hidden = false;
  if (again) element('again').focus();
}

function sayError(error: ApiError): void {
  if (error.code === 'password_change_needed') say(words.password, '', false);
  else if (error.status === 401) say(words.log_in, '', true);
  else if (error.code === 'network') say(words.network);
  else say(error.detail || error.code, error.hint ?? '', error.code !== 'forbidden' && error.code !== 'browser_console_off');
}

/** Run a console until it ends. */
async function run(): Promise<void> {
  say(words.opening, '', false);
  terminal.reset();
  waiting = {};
  let ended: Word = 'network';
  try {
    http.csrf = (await http.json<Me>('api/auth/me')).csrf_token;
    const wish = { ...size(), language, light: isLight };
    const headers = { Accept: 'text/event-stream' };
    const response = await http.request('api/console/terminals', { method: 'POST', json: wish, headers });
    for await (const event of readEvents(response)) {
      const fact = JSON.parse(event.data) as Fact;
      if (fact.id !== undefined) {
        open = fact.id;
        element('said').hidden = true;
        terminal.focus();
        put({ focused: document.hasFocus() });
      }
      if (fact.show !== undefined) terminal.write(fact.show);
      if (fact.ended !== undefined) ended = isWord(fact.ended) ? fact.ended : 'failed';
    }
    say(words[ended]);
  } catch (error) {
    sayError(asApiError(error));
  } finally {
    open = null;
  }
}

document.title = words.title;
element('again').textContent = words.again;
element('page').textContent = words.page;
element('again').addEventListener('click', () => void run());

terminal.loadAddon(fit);
terminal.loadAddon(new Unicode11Addon());
terminal.unicode.activeVersion = '11';
terminal.open(element('terminal'));
fit.fit();
terminal.onData((keys) => put({ keys }));
terminal.onResize(() => put(size()));
terminal.textarea?.addEventListener('focus', () => put({ focused: true }));
terminal.textarea?.addEventListener('blur', () => put({ focused: false }));
addEventListener('resize', () => fit.fit());
void run();
