/** One curve, by uPlot; its last value is in words beside it, for everybody. */

import type { JSX } from 'preact';
import { useEffect, useRef } from 'preact/hooks';
import uPlot from 'uplot';
import { useStore } from '../state/store.js';

interface PlotProps {
  /** Seconds since 1970. */
  times: number[];
  values: (number | null)[];
  label: string;
  format: (value: number) => string;
  /** Where the scale ends at least; what is in per cent goes to 100. */
  top?: number | undefined;
  bars?: boolean;
  /** Steps of the scale in powers of two, for bytes. */
  binary?: boolean;
}

const POWERS_OF_TWO = Array.from({ length: 50 }, (_, power) => 2 ** power);

const HEIGHT = 120;

export function Plot({ times, values, label, format, top, bars, binary }: PlotProps): JSX.Element {
  const { prefs, i18n } = useStore();
  const root = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const theme = prefs.theme.value;
  const language = i18n.language.value;

  useEffect(() => {
    const host = root.current!;
    const colour = (name: string): string => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
    const accent = colour('--accent');
    const axis = {
      stroke: colour('--ink-2'),
      grid: { stroke: colour('--line'), width: 1 },
      ticks: { show: false },
      font: '11px system-ui, sans-serif',
    };
    const dates = new Intl.DateTimeFormat(i18n.locale, bars ? { month: 'numeric', day: 'numeric' } : { hour: '2-digit', minute: '2-digit' });
    plot.current = new uPlot(
      {
        width: host.clientWidth || 300,
        height: HEIGHT,
        legend: { show: false },
        cursor: { show: false },
        scales: { y: { range: (_self, _low, high) => [0, Math.max(top ?? 0, (high ?? 0) * 1.1, 1e-9)] } },
        axes: [
          { ...axis, size: 22, space: 60, values: (_self, ticks) => ticks.map((tick) => dates.format(tick * 1000)) },
          { ...axis, size: 58, space: 34, ...(binary ? { incrs: POWERS_OF_TWO } : {}), values: (_self, ticks) => ticks.map(format) },
        ],
        series: [
          {},
          {
            stroke: accent,
            fill: `${accent}22`,
            width: 1.5,
            points: { show: false },
            ...(bars && uPlot.paths.bars ? { paths: uPlot.paths.bars({ size: [0.7, 40] }), fill: `${accent}88` } : {}),
          },
        ],
      },
      [times, values],
      host,
    );
    const observer = new ResizeObserver(() => plot.current?.setSize({ width: host.clientWidth, height: HEIGHT }));
    observer.observe(host);
    return () => {
      observer.disconnect();
      plot.current?.destroy();
      plot.current = null;
    };
  }, [theme, language, bars, top]);
  useEffect(() => plot.current?.setData([times, values]), [times, values]);
  return <div ref={root} class="plot" role="img" aria-label={label} />;
}
