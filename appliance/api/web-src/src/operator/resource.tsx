/**
 * Something of the admin API that is read again and again. Loading, Ready, Stale (old values and why there are no new
 * ones) and Failed are told apart; nothing is read in a hidden tab.
 */

import type { ComponentChildren, JSX } from 'preact';
import { useCallback, useEffect, useRef, useState } from 'preact/hooks';
import { type ApiError, asApiError, isAbort } from '../api/errors.js';
import { useStore } from '../state/store.js';
import { useWords } from './words.js';

export interface Resource<Value> {
  value: Value | null;
  error: ApiError | null;
  refresh: () => Promise<void>;
}

export function useResource<Value>(path: string, everyMs: number | null): Resource<Value> {
  const { http } = useStore();
  const [value, setValue] = useState<Value | null>(null);
  const [error, setError] = useState<ApiError | null>(null);
  const call = useRef<AbortController | null>(null);

  const refresh = useCallback(async (): Promise<void> => {
    call.current?.abort();
    const own = new AbortController();
    call.current = own;
    try {
      const fresh = await http.json<Value>(path, { signal: own.signal });
      if (own.signal.aborted) return;
      setValue(fresh);
      setError(null);
    } catch (problem) {
      if (!isAbort(problem) && !own.signal.aborted) setError(asApiError(problem));
    }
  }, [path]);

  useEffect(() => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    let over = false;
    const loop = async (): Promise<void> => {
      if (!document.hidden) await refresh();
      if (!over && everyMs !== null) timer = setTimeout(() => void loop(), everyMs);
    };
    void loop();
    return () => {
      over = true;
      clearTimeout(timer);
      call.current?.abort();
    };
  }, [refresh, everyMs]);
  return { value, error, refresh };
}

interface ShownProps<Value> {
  of: Resource<Value>;
  children: (value: Value) => ComponentChildren;
}

export function Shown<Value>({ of, children }: ShownProps<Value>): JSX.Element {
  const { w, i18n } = useWords();
  const problem = of.error === null ? null : of.error.status === 403 ? w('forbidden') : i18n.said(of.error) || of.error.code;
  if (of.value === null) {
    return (
      <p class="op-note" role="status">
        {problem === null ? w('loading') : of.error?.status === 403 ? problem : w('failed', { problem })}
        {problem !== null && of.error?.status !== 403 && (
          <button type="button" class="quiet link" onClick={() => void of.refresh()}>
            {w('retry')}
          </button>
        )}
      </p>
    );
  }
  return (
    <>
      {problem !== null && (
        <p class="op-note stale" role="status">
          {w('stale', { problem })}
        </p>
      )}
      {children(of.value)}
    </>
  );
}
