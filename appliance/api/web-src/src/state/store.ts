/** Everything the views stand on, made once in main.tsx and handed down by context. */

import { signal } from '@preact/signals';
import { createContext } from 'preact';
import { useContext } from 'preact/hooks';
import { Box } from '../api/box.js';
import { asApiError } from '../api/errors.js';
import { Http } from '../api/http.js';
import { I18n } from '../i18n/index.js';
import { Composer } from './composer.js';
import { Conversation } from './conversation.js';
import { Health } from './health.js';
import { Library } from './library.js';
import { Prefs } from './prefs.js';
import { Router } from './route.js';
import { Session } from './session.js';

export class Store {
  readonly i18n = new I18n();
  readonly prefs = new Prefs(this.i18n);
  readonly http: Http;
  readonly box: Box;
  readonly router = new Router();
  readonly session: Session;
  readonly health: Health;
  readonly library: Library;
  readonly conversation: Conversation;
  readonly composer: Composer;
  /** A short notice at the edge, and what is read out to screen readers. */
  readonly toast = signal<string | null>(null);
  readonly announcement = signal('');
  #toastTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(base: string) {
    this.http = new Http(base);
    this.box = new Box(this.http);
    this.session = new Session(this.box, this.prefs);
    this.health = new Health(this.box);
    this.library = new Library(this.box);
    this.conversation = new Conversation(
      this.box,
      this.library,
      this.session,
      this.health,
      this.prefs,
      this.router,
    );
    this.composer = new Composer(this.box, this.conversation, this.session, this.prefs);
  }

  notify(text: string): void {
    this.toast.value = text;
    clearTimeout(this.#toastTimer);
    this.#toastTimer = setTimeout(() => (this.toast.value = null), 6000);
  }

  announce(text: string): void {
    this.announcement.value = text;
  }

  /** Run what a click asked for; a failure is told, never swallowed. */
  readonly run = (work: () => Promise<void>): void => {
    work().catch((error: unknown) => {
      const problem = asApiError(error);
      const said = problem.code === 'network' ? this.i18n.t('error_network') : this.i18n.said(problem);
      this.notify(said || this.i18n.t('error_other'));
    });
  };
}

export const StoreContext = createContext<Store | null>(null);

export function useStore(): Store {
  const store = useContext(StoreContext);
  if (store === null) throw new Error('there is no store above this view');
  return store;
}
