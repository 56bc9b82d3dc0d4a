/** The daemon's log while it is written: filtered by the box, followed here, as far back as the box keeps it in memory. */

import type { JSX } from 'preact';
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';
import { type ApiError, asApiError, isAbort } from '../api/errors.js';
import { readEvents } from '../api/sse.js';
import { useStore } from '../state/store.js';
import type { LogItem } from './types.js';
import { type Word, useWords } from './words.js';

const LEVELS = ['debug', 'info', 'warning', 'error'] as const;
const MOST_LINES = 1000;
const TAIL = 300;
const TYPING_MS = 400;
const RETRY_MS = 3000;
const NEAR_PX = 40;

type Line = LogItem | { seq: string; missed: number };

export function Logs(): JSX.Element {
  const { w, i18n } = useWords();
  const [level, setLevel] = useState('info');
  const [text, setText] = useState('');
  const [wanted, setWanted] = useState('');
  const [paused, setPaused] = useState(false);
  useEffect(() => {
    const timer = setTimeout(() => setWanted(text.trim()), TYPING_MS);
    return () => clearTimeout(timer);
  }, [text]);
  const { lines, problem } = useLog(level, wanted, paused);
  return (
    <>
      <p class="op-bar">
        <select class="pick" aria-label={w('log_level')} value={level} onChange={(event) => setLevel(event.currentTarget.value)}>
          {LEVELS.map((one) => (
            <option key={one} value={one}>
              {w(`log_from_${one}`)}
            </option>
          ))}
        </select>
        <input class="op-search" type="search" autoComplete="off" spellcheck={false} aria-label={w('log_search')} placeholder={w('log_search')} value={text} onInput={(event) => setText(event.currentTarget.value)} />
        <button type="button" class="button plain" aria-pressed={paused} onClick={() => setPaused(!paused)}>
          {w(paused ? 'log_go_on' : 'log_pause')}
        </button>
      </p>
      {problem !== null && (
        <p class="op-note stale" role="status">
          {problem.status === 403 ? w('forbidden') : w('stale', { problem: i18n.said(problem) || problem.code })}
        </p>
      )}
      <LogLines lines={lines} label={w('tab_logs')} />
    </>
  );
}

/** The newest lines that pass the filter. A connection that ends is made again from where it was. */
function useLog(level: string, text: string, paused: boolean): { lines: Line[] | null; problem: ApiError | null } {
  const { http } = useStore();
  const [lines, setLines] = useState<Line[] | null>(null);
  const [problem, setProblem] = useState<ApiError | null>(null);
  const last = useRef<string | null>(null);
  useEffect(() => {
    last.current = null;
    setLines(null);
  }, [level, text]);
  useEffect(() => {
    if (paused) return undefined;
    const call = new AbortController();
    let waiting: Line[] = [];
    let timer: ReturnType<typeof setTimeout> | undefined;
    let frame = 0;
    const show = (): void => {
      frame = 0;
      const fresh = waiting;
      waiting = [];
      setLines((before) => [...(before ?? []), ...fresh].slice(-MOST_LINES));
    };
    const follow = async (): Promise<void> => {
      const query = new URLSearchParams({ level, ...(text === '' ? {} : { text }) });
      if (last.current === null) query.set('tail', String(TAIL));
      else query.set('after', last.current);
      try {
        const response = await http.request(`api/admin/logs/events?${query}`, { headers: { Accept: 'text/event-stream' }, signal: call.signal });
        setProblem(null);
        setLines((before) => before ?? []);
        for await (const event of readEvents(response)) {
          if (event.id !== null) last.current = event.id;
          const data = JSON.parse(event.data) as LogItem & { missed: number };
          waiting.push(event.name === 'gap' ? { seq: `gap-${last.current}-${waiting.length}`, missed: data.missed } : data);
          if (frame === 0) frame = requestAnimationFrame(show);
        }
      } catch (error) {
        if (isAbort(error) || call.signal.aborted) return;
        const fault = asApiError(error);
        setProblem(fault);
        if (fault.status === 403) return;
      }
      timer = setTimeout(() => void follow(), RETRY_MS);
    };
    void follow();
    return () => {
      call.abort();
      clearTimeout(timer);
      cancelAnimationFrame(frame);
    };
  }, [level, text, paused]);
  return { lines, problem };
}

/** Stays at the end while the reader is there. */
function LogLines({ lines, label }: { lines: Line[] | null; label: string }): JSX.Element {
  const { w } = useWords();
  const box = useRef<HTMLDivElement>(null);
  const follow = useRef(true);
  useLayoutEffect(() => {
    if (follow.current && box.current !== null) box.current.scrollTop = box.current.scrollHeight;
  }, [lines]);
  return (
    <div
      class="op-log"
      ref={box}
      role="region"
      aria-label={label}
      tabIndex={0}
      onScroll={(event) => {
        const { scrollHeight, scrollTop, clientHeight } = event.currentTarget;
        follow.current = scrollHeight - scrollTop - clientHeight < NEAR_PX;
      }}
    >
      {lines === null && <p class="op-note">{w('loading')}</p>}
      {lines?.length === 0 && <p class="op-note">{w('log_none')}</p>}
      {lines?.map((line) => ('missed' in line ? <p key={line.seq} class="log-gap">{w('log_missed', { count: line.missed })}</p> : <LogLine key={line.seq} line={line} />))}
    </div>
  );
}

function LogLine({ line }: { line: LogItem }): JSX.Element {
  const { w, i18n } = useWords();
  const at = new Date(line.at);
  const clock = at.toLocaleTimeString(i18n.locale, { hour12: false });
  const fields = Object.entries(line.fields).map(([name, value]) => `${name}=${typeof value === 'string' ? value : JSON.stringify(value)}`);
  return (
    <p class={`log-line ${line.level}`}>
      <time dateTime={line.at} title={i18n.time(line.at)}>
        {clock}
      </time>{' '}
      {line.level !== 'info' && <span class="log-level">{w(`log_${line.level}` as Word)} </span>}
      <span class="log-part">{line.part}</span> <strong>{line.event}</strong> {fields.join(' ')}
      {line.request_id !== null && <span class="log-part"> {line.request_id}</span>}
    </p>
  );
}
