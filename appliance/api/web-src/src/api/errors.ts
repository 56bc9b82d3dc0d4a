/** What can go wrong between page and box. */

export interface ErrorInit {
  code: string;
  message?: string;
  hint?: string | null;
  status?: number | null;
  retryAfterS?: number | null;
}

/** What went wrong, in fields: views turn it into words and next steps. `code` is the box's, or network, bad_answer. */
export class ApiError extends Error {
  readonly code: string;
  readonly detail: string;
  readonly hint: string | null;
  readonly status: number | null;
  readonly retryAfterS: number | null;

  constructor({ code, message = '', hint = null, status = null, retryAfterS = null }: ErrorInit) {
    super(message || code);
    this.name = 'ApiError';
    this.code = code;
    this.detail = message;
    this.hint = hint;
    this.status = status;
    this.retryAfterS = retryAfterS;
  }
}

export const isAbort = (error: unknown): boolean => error instanceof DOMException && error.name === 'AbortError';

/** Any thrown thing as an ApiError; what is none is a fault of this page and goes to the console too. */
export function asApiError(error: unknown): ApiError {
  if (error instanceof ApiError) return error;
  console.error(error);
  return new ApiError({ code: 'page_error', message: String(error) });
}
