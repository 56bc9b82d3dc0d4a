/** Markdown that may still grow. The DOM inside is built by MarkdownStream, not by Preact. */

import type { JSX } from 'preact';
import { useLayoutEffect, useRef } from 'preact/hooks';
import { enhance } from '../markdown/enhance.js';
import { createParser } from '../markdown/parser.js';
import { MarkdownStream } from '../markdown/stream.js';
import { useStore } from '../state/store.js';

const parser = createParser();

/** Drawing may take this part of the time while an answer streams; a huge last block is drawn less often. */
const SHARE = 0.25;

interface Drawing {
  stream: MarkdownStream;
  busyUntil: number;
  timer: ReturnType<typeof setTimeout> | undefined;
}

interface MarkdownProps {
  text: string;
  ended: boolean;
  class?: string;
}

export function Markdown({ text, ended, class: name }: MarkdownProps): JSX.Element {
  const { i18n } = useStore();
  const root = useRef<HTMLDivElement>(null);
  const state = useRef<Drawing | null>(null);
  const latest = useRef({ text, ended });
  latest.current = { text, ended };

  useLayoutEffect(() => {
    state.current ??= {
      stream: new MarkdownStream(parser, root.current!, (element, finished) => enhance(element, finished, i18n.t)),
      busyUntil: 0,
      timer: undefined,
    };
    const own = state.current;
    const draw = (): void => {
      own.timer = undefined;
      const started = performance.now();
      own.stream.update(latest.current.text, latest.current.ended);
      const cost = performance.now() - started;
      own.busyUntil = started + cost / SHARE;
    };
    const wait = own.busyUntil - performance.now();
    if (ended || wait <= 0) {
      clearTimeout(own.timer);
      draw();
    } else own.timer ??= setTimeout(draw, wait);
  }, [text, ended]);
  useLayoutEffect(() => () => clearTimeout(state.current?.timer), []);

  return <div ref={root} class={`markdown ${name ?? ''}`} />;
}
