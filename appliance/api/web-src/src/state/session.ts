/**
 * Who is at the page, and whether they may come in.
 *
 * starting -> entry | password | inside | unreachable; entry -> inside | password; password -> inside;
 * inside -> entry (log out, a dead session, a revoked key). `#enter` and `#leave` alone write `phase`.
 */

import { computed, signal } from '@preact/signals';
import { ApiError, asApiError } from '../api/errors.js';
import type { Box } from '../api/box.js';
import type { LanguageCode, Me, PageLimits, PageModel, PageStart } from '../api/types.js';
import type { Prefs } from './prefs.js';

export type Phase = 'starting' | 'entry' | 'password' | 'inside' | 'unreachable';

const RETRY_MS = 3000;

export class Session {
  readonly phase = signal<Phase>('starting');
  readonly me = signal<Me | null>(null);
  readonly version = signal('');
  readonly limits = signal<PageLimits | null>(null);
  readonly models = signal<PageModel[]>([]);
  /** The one that answers: what the reader chose, else the box's default. */
  readonly model = computed(
    () =>
      this.models.value.find((one) => one.id === this.prefs.model.value) ??
      this.models.value.find((one) => one.default) ??
      this.models.value[0] ??
      null,
  );
  /** Whether the box has told its models: an empty list means then that there is none. */
  readonly modelsKnown = signal(false);
  readonly setupNeeded = signal(false);
  /** Why the entry is shown again: the session ended, or the key is not accepted. */
  readonly ended = signal<'session' | 'key' | null>(null);
  readonly canChat = computed(() => this.may('inference'));
  readonly canOperate = computed(() => this.may('admin:read'));

  constructor(
    private readonly box: Box,
    private readonly prefs: Prefs,
  ) {
    box.http.onUnauthorized = (error) => this.#refused(error);
  }

  may(permission: string): boolean {
    return this.me.value?.permissions.includes(permission) ?? false;
  }

  get byKey(): boolean {
    return this.box.http.key !== null;
  }

  /** Try the key in the address or in the browser, else the session's cookie. */
  async begin(): Promise<void> {
    const key = takeKeyFromAddress();
    this.phase.value = 'starting';
    if (key !== null) this.prefs.keepKey(key, this.prefs.keyIsRemembered());
    this.box.http.key = this.prefs.key();
    try {
      await this.#load();
    } catch (error) {
      const problem = asApiError(error);
      if (problem.code === 'network' || (problem.status ?? 0) >= 500) {
        this.phase.value = 'unreachable';
        setTimeout(() => void this.begin(), RETRY_MS);
      } else if (this.box.http.key !== null) {
        this.#leave('key');
        await this.begin();
        this.ended.value = 'key';
      } else this.#leave(null);
    }
  }

  async #load(): Promise<void> {
    const start = await this.box.start();
    this.#note(start);
    // A key is refused by its first use; strangers are told apart by `user` alone.
    const me = start.user ?? (this.box.http.key === null ? null : await this.box.me());
    if (me === null) this.phase.value = 'entry';
    else this.#enter(me);
  }

  #note(start: PageStart): void {
    this.version.value = start.version ?? '';
    this.limits.value = start.limits;
    this.models.value = start.models;
    this.modelsKnown.value = start.user !== null;
    this.setupNeeded.value = start.setup_needed;
  }

  /** Version, models and limits, asked anew: a model may have been loaded since, and strangers are told none of it. */
  async refresh(): Promise<void> {
    try {
      this.#note(await this.box.start());
    } catch {
      // The next refresh may do better; the list at hand stays usable.
    }
  }

  async useKey(key: string, remember: boolean): Promise<void> {
    const before = this.box.http.key;
    this.box.http.key = key;
    try {
      const me = await this.box.me();
      this.prefs.keepKey(key, remember);
      this.#enter(me);
      void this.refresh();
    } catch (error) {
      this.box.http.key = before;
      throw error;
    }
  }

  async logIn(name: string, password: string): Promise<void> {
    await this.#asPerson(() => this.box.logIn(name, password));
  }

  async setUp(token: string, name: string, password: string, language: LanguageCode): Promise<void> {
    await this.#asPerson(() => this.box.setUp(token, name, password, language));
    this.setupNeeded.value = false;
  }

  async #asPerson(ask: () => Promise<Me>): Promise<void> {
    this.box.http.key = null;
    const me = await ask();
    this.prefs.forgetKey();
    this.#enter(me);
    void this.refresh();
  }

  async changePassword(old: string, fresh: string): Promise<void> {
    await this.box.changePassword(old, fresh);
    this.#enter(await this.box.me());
  }

  /** Kept for the person too, so that other browsers speak it. */
  async speak(language: LanguageCode): Promise<void> {
    if (!this.byKey && this.me.value?.kind === 'session') this.me.value = await this.box.speak(language);
  }

  async logOut(everywhere = false): Promise<void> {
    if (!this.byKey) {
      try {
        await this.box.logOut(everywhere);
      } catch (error) {
        if (!(error instanceof ApiError) || error.status !== 401) throw error;
      }
    }
    this.#leave(null);
    this.prefs.forgetDrafts();
  }

  #enter(me: Me): void {
    this.me.value = me;
    this.box.http.csrf = me.csrf_token;
    this.ended.value = null;
    if (me.language !== null && this.prefs.language.value === null) this.prefs.language.value = me.language;
    this.phase.value = me.must_change_password ? 'password' : 'inside';
  }

  #leave(why: 'session' | 'key' | null): void {
    this.prefs.forgetKey();
    this.box.http.key = null;
    this.box.http.csrf = null;
    this.me.value = null;
    this.modelsKnown.value = false;
    this.ended.value = why;
    this.phase.value = 'entry';
  }

  #refused(error: ApiError): void {
    if (this.phase.value !== 'inside') return;
    if (error.code === 'password_change_needed') this.phase.value = 'password';
    else this.#leave(this.byKey ? 'key' : 'session');
  }
}

/** `#key=r1b_...`, as the box prints its link; it goes from the address at once. */
function takeKeyFromAddress(): string | null {
  const match = /^#key=([^&]+)/.exec(location.hash);
  if (match === null) return null;
  history.replaceState(null, '', location.pathname + location.search);
  return decodeURIComponent(match[1]!);
}
