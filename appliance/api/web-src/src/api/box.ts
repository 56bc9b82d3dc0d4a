/** The routes of the box that this page uses, each as one function. */

import { type Http } from './http.js';
import { type ServerEvent, readEvents } from './sse.js';
import {
  type Attachment,
  type Chat,
  type ChatPage,
  type ChatSummary,
  type Count,
  type LanguageCode,
  type Me,
  type PageModel,
  type PageStart,
  type Readiness,
  type Sent,
} from './types.js';

export interface Question {
  parent_id: number | null;
  /** null: answer the question `parent_id` once more. */
  content: string | null;
  attachment_ids: number[];
  model?: string;
  effort?: string;
}

const number = (value: unknown): number | null => (typeof value === 'number' && Number.isFinite(value) ? value : null);
const text = (value: unknown): string | null => (typeof value === 'string' && value !== '' ? value : null);

export class Box {
  constructor(readonly http: Http) {}

  /** What the page needs at its start; a dead key is an ApiError, a dead session is `user: null`. */
  async start(): Promise<PageStart> {
    const body = await this.http.json<Partial<PageStart>>('api/page');
    return {
      version: body.version ?? null,
      user: body.user ?? null,
      limits: body.limits ?? null,
      setup_needed: body.setup_needed ?? false,
      models: (body.models ?? []).map(modelOf),
    };
  }

  /** Never throws: a box that does not answer is a state too. 503 carries the same body while the model loads. */
  async readiness(): Promise<Readiness> {
    try {
      const response = await this.http.raw('readyz', { signal: AbortSignal.timeout(8000) });
      const body = (await response.json()) as Record<string, unknown>;
      return {
        state: (text(body.state) ?? (response.ok ? 'ready' : 'failed')).toLowerCase(),
        model: text(body.model),
        load_fraction: number(body.load_fraction),
        context_tokens: number(body.context_tokens),
        error: text(body.error),
      };
    } catch {
      return { state: 'unreachable', model: null, load_fraction: null, context_tokens: null, error: null };
    }
  }

  // ---- who one is

  me(): Promise<Me> {
    return this.http.json('api/auth/me');
  }

  logIn(name: string, password: string): Promise<Me> {
    return this.http.json('api/auth/login', { method: 'POST', json: { name, password } });
  }

  setUp(token: string, name: string, password: string, language: LanguageCode): Promise<Me> {
    return this.http.json('api/auth/setup', { method: 'POST', json: { token, name, password, language } });
  }

  logOut(everywhere: boolean): Promise<void> {
    return this.http.done('api/auth/logout', { method: 'POST', json: { everywhere } });
  }

  changePassword(old: string, fresh: string): Promise<void> {
    return this.http.done('api/auth/password', { method: 'POST', json: { old, new: fresh } });
  }

  speak(language: LanguageCode): Promise<Me> {
    return this.http.json('api/auth/me', { method: 'PATCH', json: { language } });
  }

  // ---- chats

  chats(query: string, cursor: string | null, signal?: AbortSignal): Promise<ChatPage> {
    const parameters = new URLSearchParams({ limit: '50' });
    if (query !== '') parameters.set('query', query);
    if (cursor !== null) parameters.set('cursor', cursor);
    return this.http.json(`api/chats?${parameters}`, { signal });
  }

  createChat(model: string | null): Promise<ChatSummary> {
    return this.http.json('api/chats', { method: 'POST', json: model === null ? {} : { model } });
  }

  chat(id: number, signal?: AbortSignal): Promise<Chat> {
    return this.http.json(`api/chats/${id}`, { signal });
  }

  changeChat(id: number, change: { title?: string; pinned?: boolean; leaf_id?: number }): Promise<ChatSummary> {
    return this.http.json(`api/chats/${id}`, { method: 'PATCH', json: change });
  }

  deleteChat(id: number): Promise<void> {
    return this.http.done(`api/chats/${id}`, { method: 'DELETE' });
  }

  deleteAllChats(): Promise<void> {
    return this.http.done('api/chats', { method: 'DELETE' });
  }

  async exportChat(id: number, format: 'markdown' | 'json'): Promise<Blob> {
    return (await this.http.request(`api/chats/${id}/export?format=${format}`, { headers: { Accept: '*/*' } })).blob();
  }

  ask(chatId: number, question: Question): Promise<Sent> {
    return this.http.json(`api/chats/${chatId}/messages`, { method: 'POST', json: question });
  }

  /** What a question would take of the model's context, with all that stands before it; null: of a new chat. */
  count(chatId: number | null, question: Question, signal?: AbortSignal): Promise<Count> {
    const path = chatId === null ? 'api/chats/count' : `api/chats/${chatId}/count`;
    return this.http.json(path, { method: 'POST', json: question, signal });
  }

  /** The answer's events after `lastId`, from a snapshot on without it. */
  async *answerEvents(
    chatId: number,
    answerId: number,
    lastId: string | null,
    signal: AbortSignal,
  ): AsyncGenerator<ServerEvent, void, void> {
    const headers: Record<string, string> = { Accept: 'text/event-stream' };
    if (lastId !== null) headers['Last-Event-ID'] = lastId;
    const response = await this.http.request(`${answerPath(chatId, answerId)}/events`, { headers, signal });
    yield* readEvents(response);
  }

  stop(chatId: number, answerId: number): Promise<void> {
    return this.http.done(`${answerPath(chatId, answerId)}/stop`, { method: 'POST', json: {} });
  }

  answerNow(chatId: number, answerId: number): Promise<void> {
    return this.http.done(`${answerPath(chatId, answerId)}/answer_now`, { method: 'POST', json: {} });
  }

  /** `model`: whose tokens to count. */
  attach(file: File, model: string | null): Promise<Attachment> {
    const query = model === null ? '' : `?${new URLSearchParams({ model })}`;
    return this.http.json(`api/attachments${query}`, {
      method: 'POST',
      body: file,
      headers: { 'Content-Type': 'application/octet-stream', 'X-File-Name': encodeURIComponent(file.name) },
    });
  }

  detach(id: number): Promise<void> {
    return this.http.done(`api/attachments/${id}`, { method: 'DELETE' });
  }
}

const answerPath = (chatId: number, answerId: number): string =>
  `api/chats/${chatId}/answers/${answerId}`;

function modelOf(model: Partial<PageModel>): PageModel {
  return {
    id: String(model.id),
    name: model.name ?? null,
    quantization: model.quantization ?? null,
    state: model.state ?? null,
    context_tokens: number(model.context_tokens),
    efforts: Array.isArray(model.efforts) ? model.efforts : [],
    default: model.default === true,
  };
}
