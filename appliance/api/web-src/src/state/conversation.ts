/** The chat that is open: its tree, the branch that is shown, the answer that is being written, what waits to be sent. */

import { batch, computed, signal } from '@preact/signals';
import { ApiError, asApiError, isAbort } from '../api/errors.js';
import type { Box, Question } from '../api/box.js';
import type { Attachment, ChatSummary, Message, Sent } from '../api/types.js';
import { LiveAnswer } from './answer.js';
import type { Health } from './health.js';
import type { Library } from './library.js';
import type { Prefs } from './prefs.js';
import { type Router, chatHref } from './route.js';
import type { Session } from './session.js';
import { MessageTree } from './tree.js';

/** Of the six connections that a browser opens to one server. */
const MOST_IN_BACKGROUND = 3;

/** Refusals that pass by themselves. */
const PASSING = new Set(['queue_full', 'too_many_answers', 'engine_lost']);
const BUSY_RETRIES = 5;
const NOT_READY_RETRY_MS = 1000;

/** Why a call was given up: its writer wants the words back. Any other reason is that another chat is shown. */
const TAKEN_BACK = 'taken back';

export interface Pending {
  parentId: number | null;
  content: string | null;
  attachments: Attachment[];
  /** Why it is not sent yet; null while it is on its way. */
  why: 'loading' | 'stopped' | 'failed' | 'busy' | null;
}

export interface Refusal {
  error: ApiError;
  pending: Pending;
}

export class Conversation {
  readonly chatId = signal<number | null>(null);
  readonly summary = signal<ChatSummary | null>(null);
  readonly messages = signal<Message[]>([]);
  readonly leafId = signal<number | null>(null);
  readonly loading = signal(false);
  readonly loadError = signal<ApiError | null>(null);
  readonly pending = signal<Pending | null>(null);
  readonly refusal = signal<Refusal | null>(null);
  readonly live = signal<LiveAnswer | null>(null);
  /** For screen readers and the tab's title. */
  readonly ended = signal<{ message: Message } | null>(null);
  readonly tree = computed(() => new MessageTree(this.messages.value));
  readonly path = computed(() => this.tree.value.path(this.leafId.value));
  readonly busy = computed(() => this.live.value !== null || this.pending.value !== null);
  #call = new AbortController();
  /** Answers in chats that are not shown, which are followed on: a browser has few connections to one box. */
  readonly #background = new Map<number, LiveAnswer>();

  constructor(
    private readonly box: Box,
    private readonly library: Library,
    private readonly session: Session,
    private readonly health: Health,
    private readonly prefs: Prefs,
    private readonly router: Router,
  ) {}

  /** Show a chat, or the beginning of a new one. */
  async open(id: number | null): Promise<void> {
    if (id !== null && id === this.chatId.value) return;
    this.#reset(id);
    if (id !== null) await this.#load(id);
  }

  /** Show nothing and follow nothing any more. */
  close(): void {
    this.#reset(null);
    for (const live of this.#background.values()) live.close();
    this.#background.clear();
  }

  /** The answer that is shown goes on unseen; the longest unseen one is let go of. */
  #leaveLive(): void {
    const live = this.live.value;
    if (live === null) return;
    this.#background.set(live.message.id, live);
    const [oldest] = this.#background.values();
    if (this.#background.size <= MOST_IN_BACKGROUND || oldest === undefined) return;
    oldest.close();
    this.#background.delete(oldest.message.id);
    this.library.mark(oldest.chatId, false);
  }

  async reload(): Promise<void> {
    if (this.chatId.value !== null) await this.#load(this.chatId.value);
  }

  #reset(id: number | null): void {
    this.#call.abort();
    this.#call = new AbortController();
    this.#leaveLive();
    batch(() => {
      this.chatId.value = id;
      this.summary.value = null;
      this.messages.value = [];
      this.leafId.value = null;
      this.loadError.value = null;
      this.pending.value = null;
      this.refusal.value = null;
      this.live.value = null;
      this.ended.value = null;
      this.loading.value = false;
    });
  }

  async #load(id: number): Promise<void> {
    const { signal: gone } = this.#call;
    this.loading.value = true;
    this.loadError.value = null;
    try {
      const chat = await this.box.chat(id, gone);
      if (gone.aborted) return;
      const { messages, ...summary } = chat;
      batch(() => {
        this.summary.value = summary;
        this.messages.value = messages;
        this.leafId.value = summary.leaf_id ?? messages[messages.length - 1]?.id ?? null;
      });
      this.#followLeaf();
    } catch (error) {
      if (!isAbort(error) && !gone.aborted) this.loadError.value = asApiError(error);
    } finally {
      if (!gone.aborted) this.loading.value = false;
    }
  }

  /** Listen to the shown branch's answer if it is being written. */
  #followLeaf(): void {
    const leaf = this.path.value[this.path.value.length - 1];
    if (this.live.value !== null && this.live.value.message.id !== leaf?.id) {
      this.#leaveLive();
      this.live.value = null;
    }
    if (leaf === undefined || leaf.state !== 'streaming' || this.live.value !== null) return;
    const known = this.#background.get(leaf.id);
    if (known !== undefined) {
      this.#background.delete(leaf.id);
      this.live.value = known;
      return;
    }
    const chatId = this.chatId.value!;
    const live = new LiveAnswer(this.box, chatId, leaf, {
      onEnd: (message) => this.#answered(live, message),
      onLost: () => this.health.now(),
    });
    this.live.value = live;
    this.library.mark(chatId, true);
    void live.follow();
  }

  #answered(live: LiveAnswer, message: Message | null): void {
    this.library.mark(live.chatId, false);
    this.#background.delete(live.message.id);
    if (this.live.value !== live) {
      // Of the open chat, but on a branch that is not shown.
      if (message !== null && this.chatId.value === live.chatId) this.#replace(message);
      return;
    }
    batch(() => {
      this.live.value = null;
      if (message !== null) {
        this.#replace(message);
        this.ended.value = { message };
      }
    });
    if (message === null) void this.reload();
    void this.library.load();
  }

  #replace(message: Message): void {
    this.messages.value = this.messages.value.map((one) => (one.id === message.id ? message : one));
  }

  // ---- asking

  /** The last message of the shown branch, which a new question goes below. */
  get lastId(): number | null {
    return this.path.value[this.path.value.length - 1]?.id ?? null;
  }

  question(pending: Pick<Pending, 'parentId' | 'content' | 'attachments'>): Question {
    const effort = this.prefs.effort.value;
    const known = this.session.model.value;
    return {
      parent_id: pending.parentId,
      content: pending.content,
      attachment_ids: pending.attachments.map((one) => one.id),
      ...(known === null ? {} : { model: known.id }),
      ...(effort === null ? {} : { effort }),
    };
  }

  ask(content: string, attachments: Attachment[]): Promise<void> {
    return this.#send({ parentId: this.lastId, content, attachments, why: null });
  }

  /** The same place as `message`, with other words: a branch beside it. */
  edit(message: Message, content: string): Promise<void> {
    return this.#send({ parentId: message.parent_id, content, attachments: message.attachments, why: null });
  }

  /** Another answer to the same question. */
  regenerate(answer: Message): Promise<void> {
    return this.#send({ parentId: answer.parent_id, content: null, attachments: [], why: null });
  }

  retry(): Promise<void> {
    const refusal = this.refusal.value;
    return refusal === null ? Promise.resolve() : this.#send({ ...refusal.pending, why: null });
  }

  /** Take back what is not sent yet, or what was refused. */
  takeBack(): Pending | null {
    const taken = this.pending.value ?? this.refusal.value?.pending ?? null;
    if (this.pending.value !== null) {
      this.#call.abort(TAKEN_BACK);
      this.#call = new AbortController();
    }
    this.pending.value = null;
    this.refusal.value = null;
    return taken;
  }

  async #send(first: Pending): Promise<void> {
    if (this.busy.value) return;
    const { signal: gone } = this.#call;
    batch(() => {
      this.refusal.value = null;
      this.ended.value = null;
      this.pending.value = first;
    });
    let busyTries = 0;
    const askedIn = this.chatId.value;
    for (;;) {
      try {
        const chatId = this.chatId.value ?? (await this.#newChat(first, gone));
        if (chatId === null) return;
        const sent = await this.box.ask(chatId, this.question(first));
        if (!gone.aborted) this.#sent(sent);
        // Shown again meanwhile, or taken back too late: what the box has is read anew.
        else if (this.chatId.value === chatId) await this.reload();
        return;
      } catch (error) {
        const problem = asApiError(error);
        // The entry is shown instead of the chat; what was written comes back with it.
        if (problem.status === 401 && first.content !== null) this.prefs.keepDraft(askedIn, first.content);
        if (gone.aborted) return;
        const why = this.#passing(problem, busyTries);
        if (why === null) {
          batch(() => {
            this.pending.value = null;
            this.refusal.value = { error: problem, pending: first };
          });
          return;
        }
        this.pending.value = { ...first, why };
        if (why === 'busy') {
          busyTries += 1;
          await new Promise((resolve) => setTimeout(resolve, Math.min(problem.retryAfterS ?? 2, 10) * 1000));
        } else {
          // The box may go on refusing: it is not to be asked in a circle.
          await new Promise((resolve) => setTimeout(resolve, NOT_READY_RETRY_MS));
          this.health.now();
          await this.health.next();
        }
        if (gone.aborted) return;
      }
    }
  }

  /** Why a refusal will pass, so that the message waits instead of failing; null when it will not. */
  #passing(error: ApiError, tries: number): Pending['why'] {
    if (error.status !== 503 && error.status !== 429) return null;
    const state = this.health.readiness.value?.state;
    if (error.code === 'model_not_ready') return state === 'failed' || state === 'stopped' ? state : 'loading';
    return PASSING.has(error.code) && tries < BUSY_RETRIES ? 'busy' : null;
  }

  /** The id of a chat for the first question; null when its writer has gone on to something else meanwhile. */
  async #newChat({ content }: Pending, gone: AbortSignal): Promise<number | null> {
    const chat = await this.box.createChat(this.prefs.model.value);
    if (gone.aborted) {
      if (gone.reason === TAKEN_BACK) await this.box.deleteChat(chat.id);
      else {
        // Nothing is asked that nobody sees: the words wait in the new chat.
        this.prefs.keepDraft(chat.id, content ?? '');
        this.prefs.keepDraft(null, '');
        this.library.note(chat);
      }
      return null;
    }
    this.prefs.keepDraft(null, '');
    batch(() => {
      this.chatId.value = chat.id;
      this.summary.value = chat;
    });
    this.library.note(chat);
    this.router.go(chatHref(chat.id), true);
    return chat.id;
  }

  #sent({ user_message, answer, chat }: Sent): void {
    batch(() => {
      const added = user_message === null ? [answer] : [user_message, answer];
      this.messages.value = [...this.messages.value, ...added];
      this.leafId.value = answer.id;
      this.pending.value = null;
      this.summary.value = chat;
      this.library.note(chat);
    });
    this.#followLeaf();
  }

  // ---- branches

  /** Show the branch with that message. */
  async show(message: Message): Promise<void> {
    const leaf = this.tree.value.newestLeaf(message.id);
    this.leafId.value = leaf;
    this.refusal.value = null;
    this.#followLeaf();
    if (this.chatId.value !== null) await this.box.changeChat(this.chatId.value, { leaf_id: leaf });
  }
}
