/** What would fit this box, best first, and why not the rest: read when it is opened, for it plans the whole catalogue. */

import type { JSX } from 'preact';
import { useState } from 'preact/hooks';
import { useStore } from '../state/store.js';
import { Shown, useResource } from './resource.js';
import { Table } from './table.js';
import type { Job, Plan, Plans as PlanList, WhyNot } from './types.js';
import { useWords } from './words.js';

const SHOWN_REASONS = 12;

interface PlansProps {
  /** Whether the reader may download models. */
  may: boolean;
  onBegun: () => Promise<void>;
}

export function Plans({ may, onBegun }: PlansProps): JSX.Element {
  const { w } = useWords();
  const [open, setOpen] = useState(false);
  return (
    <details class="op-card plans" onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>
        <h3>{w('plans')}</h3>
      </summary>
      {open && <Fitting may={may} onBegun={onBegun} />}
    </details>
  );
}

function Fitting({ may, onBegun }: PlansProps): JSX.Element {
  const store = useStore();
  const { w, i18n, bytes } = useWords();
  const plans = useResource<PlanList>('api/admin/plans', null);
  const [asked, setAsked] = useState<ReadonlySet<string>>(new Set());

  const get = (plan: Plan): void =>
    store.run(async () => {
      setAsked((before) => new Set(before).add(keyOf(plan)));
      const target = `${plan.variant}:${plan.quantization}`;
      try {
        await store.http.json<Job>('api/admin/jobs', { method: 'POST', json: { kind: 'pull', target, hub: 'auto' } });
      } catch (error) {
        setAsked((before) => new Set([...before].filter((key) => key !== keyOf(plan))));
        throw error;
      }
      await onBegun();
    });

  const speed = ({ decode_tokens_per_s: band }: Plan): string =>
    band === null ? w('none') : w('plan_speed_value', { low: Math.round(band.low), high: Math.round(band.high) });

  return (
    <Shown of={plans}>
      {({ cards, host_memory_available_bytes: host, plans: fitting, rejections, notes }) => (
        <>
          <p>
            {cards.length === 0
              ? w('plans_processor', { memory: bytes(host) })
              : w('plans_cards', { cards: cards.map((one) => `${one.count} × ${one.name}`).join(', ') })}
          </p>
          {notes.map((note) => (
            <p key={note} class="op-note" lang="en">
              {note}
            </p>
          ))}
          {fitting.length === 0 ? (
            <p class="op-problem">{w('plans_none')}</p>
          ) : (
            <Table
              label={w('plans')}
              rows={fitting}
              keyOf={keyOf}
              columns={[
                {
                  name: w('model'),
                  wraps: true,
                  cell: (plan) => (
                    <>
                      <strong class="nowrap">{plan.variant}</strong> {plan.quantization}
                      {!plan.installed && <p class="op-problem">{w('plan_no_engine', { engine: plan.engine })}</p>}
                    </>
                  ),
                },
                { name: w('plan_engine'), cell: (plan) => plan.engine },
                { name: w('model_where'), wraps: true, cell: (plan) => plan.devices.join(', ') || w('model_processor') },
                {
                  name: w('model_seats'),
                  cell: (plan) => w('model_seats_value', { seats: plan.seats, context: i18n.short(plan.context_tokens) }),
                },
                { name: w('plan_speed'), cell: speed },
                { name: w('model_size'), number: true, cell: (plan) => bytes(plan.file_bytes) },
                ...(may
                  ? [
                      {
                        name: w('actions'),
                        cell: (plan: Plan) => (
                          <button
                            type="button"
                            class="button plain"
                            disabled={!plan.installed || asked.has(keyOf(plan))}
                            onClick={() => get(plan)}
                          >
                            {w('plan_get')}
                            <span class="visually-hidden"> {keyOf(plan)}</span>
                          </button>
                        ),
                      },
                    ]
                  : []),
              ]}
            />
          )}
          {rejections.length > 0 && <Reasons rejections={rejections} />}
        </>
      )}
    </Shown>
  );
}

function Reasons({ rejections }: { rejections: WhyNot[] }): JSX.Element {
  const { w, i18n } = useWords();
  const [all, setAll] = useState(false);
  const shown = all ? rejections : rejections.slice(0, SHOWN_REASONS);
  return (
    <section aria-label={w('plans_why_not')}>
      <h4>{w('plans_why_not')}</h4>
      <ul class="op-proof">
        {shown.map((one) => (
          <li key={`${one.variant} ${one.quantization} ${one.engine}`}>
            <strong>{one.variant}</strong> {one.quantization}: <span lang="en">{one.reason}</span>
            {one.counter_offer !== null && (
              <>
                {' '}
                {w('plan_counter', {
                  seats: one.counter_offer.seats,
                  context: i18n.short(one.counter_offer.context_tokens),
                })}
              </>
            )}
          </li>
        ))}
      </ul>
      {!all && rejections.length > SHOWN_REASONS && (
        <button type="button" class="quiet link" onClick={() => setAll(true)}>
          {w('plans_all_reasons', { count: i18n.number(rejections.length) })}
        </button>
      )}
    </section>
  );
}

const keyOf = ({ variant, quantization, engine }: Plan): string => `${variant} ${quantization} ${engine}`;
