/** Cards and the host: what they do now, and how the last hour was. */

import type { JSX } from 'preact';
import { useMemo } from 'preact/hooks';
import { Plot } from './plot.js';
import { Shown, useResource } from './resource.js';
import type { Device, History, Telemetry, TelemetryEvent } from './types.js';
import { type Word, formatBytes, useWords } from './words.js';

const NOW_MS = 3000;
const HISTORY_MS = 30_000;

export function Cards(): JSX.Element {
  const { w } = useWords();
  const now = useResource<Telemetry>('api/admin/telemetry', NOW_MS);
  const history = useResource<History>('api/admin/telemetry/history?points=120', HISTORY_MS);
  return (
    <Shown of={now}>
      {(telemetry) =>
        telemetry.enabled ? (
          <>
            {telemetry.devices.length === 0 && <p class="op-note">{w('cards_none')}</p>}
            {telemetry.devices.map((device) => (
              <Card key={device.key} device={device} history={history.value} />
            ))}
            {telemetry.host !== null && <HostCard telemetry={telemetry} history={history.value} />}
            <Events events={telemetry.events} />
          </>
        ) : (
          <p class="op-note">{w('cards_off')}</p>
        )
      }
    </Shown>
  );
}

function Card({ device, history }: { device: Device; history: History | null }): JSX.Element {
  const { w, bytes, unit } = useWords();
  const title = [device.key, device.name ?? device.chip].filter(Boolean).join(' · ');
  return (
    <section class="op-card" aria-label={title}>
      <header>
        <h3>{title}</h3>
        <span class={`badge ${device.state === 'present' ? device.health : 'critical'}`}>
          {w(device.state === 'lost' ? 'card_lost' : device.state === 'unknown' ? 'card_unknown' : (`health_${device.health}` as Word))}
        </span>
      </header>
      {device.problem !== null && <p class="op-problem">{device.problem}</p>}
      {device.throttle_reasons.length > 0 && (
        <p class="op-problem">{w('card_throttled', { reasons: device.throttle_reasons.join(', ') })}</p>
      )}
      {device.state === 'present' && (
        <>
          <dl class="facts-row">
            <Fact name={w('card_memory')} value={`${bytes(device.memory_used_bytes)} / ${bytes(device.memory_total_bytes)}`} />
            <Fact name={w('card_use')} value={unit(device.utilization_percent, '%')} />
            <Fact name={w('card_temperature')} value={unit(device.temperature_celsius, '°C')} />
            <Fact name={w('card_power')} value={unit(device.power_watts, 'W')} />
            <Fact name={w('card_clock')} value={unit(device.clock_mhz, 'MHz')} />
          </dl>
          <div class="plots">
            <Curve history={history} subject={device.key} field="utilization_percent" name={w('card_use')} top={100} format={percent} />
            <Curve history={history} subject={device.key} field="memory_used_bytes" name={w('card_memory')} top={device.memory_total_bytes ?? undefined} format={formatBytes} />
            <Curve history={history} subject={device.key} field="temperature_celsius" name={w('card_temperature')} format={celsius} />
            <Curve history={history} subject={device.key} field="power_watts" name={w('card_power')} format={watts} />
          </div>
        </>
      )}
    </section>
  );
}

function HostCard({ telemetry, history }: { telemetry: Telemetry; history: History | null }): JSX.Element {
  const { w, bytes, unit } = useWords();
  const host = telemetry.host!;
  const rate = (value: number | null): string => (value === null ? w('none') : `${formatBytes(value)}/s`);
  return (
    <section class="op-card" aria-label={w('host')}>
      <header>
        <h3>{w('host')}</h3>
      </header>
      <dl class="facts-row">
        <Fact name={w('host_cpu')} value={unit(host.cpu_percent, '%')} />
        <Fact name={w('host_load')} value={host.load_1 === null ? w('none') : host.load_1.toFixed(2)} />
        <Fact name={w('card_memory')} value={`${bytes(host.memory_used_bytes)} / ${bytes(host.memory_total_bytes)}`} />
        <Fact name={w('host_disk')} value={bytes(host.disk_free_bytes)} />
        <Fact name={w('host_network')} value={`${rate(host.network_in_bytes_per_s)} · ${rate(host.network_out_bytes_per_s)}`} />
      </dl>
      <div class="plots">
        <Curve history={history} subject="host" field="cpu_percent" name={w('host_cpu')} top={100} format={percent} />
        <Curve history={history} subject="host" field="memory_used_bytes" name={w('card_memory')} top={host.memory_total_bytes ?? undefined} format={formatBytes} />
      </div>
    </section>
  );
}

const percent = (value: number): string => `${Math.round(value)} %`;
const celsius = (value: number): string => `${Math.round(value)} °C`;
const watts = (value: number): string => `${Math.round(value)} W`;

function Fact({ name, value }: { name: string; value: string }): JSX.Element {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{value}</dd>
    </div>
  );
}

interface CurveProps {
  history: History | null;
  subject: string;
  field: string;
  name: string;
  top?: number | undefined;
  format: (value: number) => string;
}

function Curve({ history, subject, field, name, top, format }: CurveProps): JSX.Element | null {
  const { w } = useWords();
  const series = history?.series.find((one) => one.subject === subject && one.field === field);
  const times = useMemo(() => {
    if (history === null) return [];
    const start = Date.parse(history.start) / 1000;
    return Array.from({ length: history.buckets }, (_, bucket) => start + bucket * history.step_s);
  }, [history]);
  if (series === undefined || series.mean.every((value) => value === null)) return null;
  const last = series.mean.findLast((value) => value !== null) ?? null;
  const said = last === null ? name : w('plot_now', { name, value: format(last) });
  return (
    <figure>
      <figcaption>{w('last_hour', { name })}</figcaption>
      <Plot times={times} values={series.mean} label={said} top={top} format={format} binary={format === formatBytes} />
    </figure>
  );
}

function Events({ events }: { events: TelemetryEvent[] }): JSX.Element {
  const { w, time, meaning } = useWords();
  return (
    <section class="op-card" aria-label={w('events')}>
      <header>
        <h3>{w('events')}</h3>
      </header>
      {events.length === 0 ? (
        <p class="op-note">{w('events_none')}</p>
      ) : (
        <ul class="op-events">
          {[...events].reverse().slice(0, 50).map((event) => (
            <li key={event.id} class={event.severity}>
              <time dateTime={event.time}>{time(event.time)}</time> {meaning(event.kind)} <span lang="en">{event.message}</span>
            </li>
          ))}
        </ul>
      )}
    </section>
  );
}
