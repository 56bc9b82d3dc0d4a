/** The only module that fetches: adds the key or the session's CSRF token, and turns refusals into ApiError. */

import { ApiError, isAbort } from './errors.js';

const text = (value: unknown): string | null => (typeof value === 'string' && value !== '' ? value : null);

/** The error in the box's envelope; a body that is none (a proxy's page) still gives a usable error. */
async function errorFrom(response: Response): Promise<ApiError> {
  const body: unknown = await response.json().catch(() => null);
  const error = (body as { error?: Record<string, unknown> } | null)?.error;
  const seconds = Number(response.headers.get('Retry-After') ?? Number.NaN);
  return new ApiError({
    code: text(error?.code) ?? text(error?.type) ?? `http_${response.status}`,
    message: text(error?.message) ?? '',
    hint: text(error?.hint),
    status: response.status,
    retryAfterS: Number.isFinite(seconds) && seconds >= 0 ? seconds : null,
  });
}

export interface RequestOptions {
  method?: string;
  json?: unknown;
  body?: BodyInit;
  headers?: Record<string, string>;
  signal?: AbortSignal | undefined;
}

export class Http {
  /** The API key in key mode; null for people with a session. */
  key: string | null = null;
  csrf: string | null = null;
  /** Called for every answer that says: log in (again). */
  onUnauthorized: (error: ApiError) => void = () => undefined;
  readonly #base: string;

  constructor(base: string) {
    this.#base = base;
  }

  /** The response whatever its status. Throws ApiError `network` when there is none. */
  async raw(path: string, options: RequestOptions = {}): Promise<Response> {
    const method = options.method ?? 'GET';
    const headers: Record<string, string> = { Accept: 'application/json', ...options.headers };
    if (this.key !== null) headers.Authorization = `Bearer ${this.key}`;
    else if (this.csrf !== null && method !== 'GET') headers['X-R1Box-CSRF'] = this.csrf;
    let body = options.body ?? null;
    if (options.json !== undefined) {
      headers['Content-Type'] = 'application/json';
      body = JSON.stringify(options.json);
    }
    try {
      return await fetch(new URL(path, this.#base), {
        method,
        headers,
        body,
        signal: options.signal ?? null,
        cache: 'no-store',
        redirect: 'error',
      });
    } catch (error) {
      if (isAbort(error)) throw error;
      throw new ApiError({ code: 'network' });
    }
  }

  /** A response with a status of success. Throws ApiError. */
  async request(path: string, options: RequestOptions = {}): Promise<Response> {
    const response = await this.raw(path, options);
    if (response.ok) return response;
    const error = await errorFrom(response);
    if (error.status === 401 || error.code === 'password_change_needed') this.onUnauthorized(error);
    throw error;
  }

  async json<T>(path: string, options: RequestOptions = {}): Promise<T> {
    const response = await this.request(path, options);
    try {
      return (await response.json()) as T;
    } catch (error) {
      if (isAbort(error)) throw error;
      throw new ApiError({ code: 'bad_answer', status: response.status });
    }
  }

  async done(path: string, options: RequestOptions = {}): Promise<void> {
    await this.request(path, options);
  }
}
