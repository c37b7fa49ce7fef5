import { memo, useId, useState, type ReactNode } from 'react';

import { describe } from '../console/describe';
import { clockTime } from '../console/format';
import type { StreamPhase } from '../stream/port';
import type { DomainEvent, Family } from '../stream/events';

interface EventPanelProps {
  readonly log: readonly DomainEvent[];
  readonly received: number;
  readonly phase: StreamPhase;
}

type Shown = 'all' | Exclude<Family, 'other'>;

const CHOICES: readonly (readonly [Shown, string])[] = [
  ['all', 'All'],
  ['product', 'Products'],
  ['order', 'Orders'],
  ['inventory', 'Stock'],
];

export function EventPanel({ log, received, phase }: EventPanelProps) {
  const headingId = useId();
  const [shown, setShown] = useState<Shown>('all');
  const [frozen, setFrozen] = useState<{
    readonly log: readonly DomainEvent[];
    readonly received: number;
  } | null>(null);

  const events = (frozen?.log ?? log).filter((event) => shown === 'all' || event.family === shown);
  const waiting = frozen === null ? 0 : received - frozen.received;

  return (
    <section className="panel events" aria-labelledby={headingId}>
      <div className="panel-head">
        <h2 id={headingId}>
          Live events <span className="count">{received.toLocaleString()}</span>
        </h2>
        <button
          type="button"
          className="push"
          aria-pressed={frozen !== null}
          onClick={() => {
            setFrozen(frozen === null ? { log, received } : null);
          }}
        >
          {frozen === null ? 'Pause' : `Resume${waiting > 0 ? ` (${waiting} new)` : ''}`}
        </button>
      </div>
      <fieldset className="segments">
        <legend className="visually-hidden">Show events about</legend>
        {CHOICES.map(([value, label]) => (
          <label key={value}>
            <input
              type="radio"
              name={`${headingId}-shown`}
              checked={shown === value}
              onChange={() => {
                setShown(value);
              }}
            />
            <span>{label}</span>
          </label>
        ))}
      </fieldset>
      {events.length > 0 ? (
        <ScrollList>
          {events.map((event) => (
            <EventItem key={event.id} event={event} />
          ))}
        </ScrollList>
      ) : (
        <p className="empty">
          {phase === 'live' ? 'Waiting for the next event.' : 'Events appear once connected.'}
        </p>
      )}
    </section>
  );
}

/** The list scrolls by itself, so the keyboard must be able to reach it. */
function ScrollList({ children }: { readonly children: ReactNode }) {
  return (
    // eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex -- a scrolling region needs focus
    <div className="scroll" role="group" aria-label="Events, newest first" tabIndex={0}>
      <ol className="event-list">{children}</ol>
    </div>
  );
}

const EventItem = memo(function EventItem({ event }: { readonly event: DomainEvent }) {
  const [open, setOpen] = useState(false);
  const [family = '', verb = event.type] = event.type.split('.', 2);
  return (
    <li className="event" data-event-id={event.id} data-event-type={event.type}>
      <details
        onToggle={(toggled) => {
          setOpen(toggled.currentTarget.open);
        }}
      >
        <summary>
          <span className="event-line">
            <span className="type" data-tone={toneOf(event.type)}>
              <span className="type-family">{family}.</span>
              {verb}
            </span>
            <time dateTime={event.time}>{clockTime(event.time)}</time>
          </span>
          <span className="sentence">{describe(event)}</span>
          <span className="details">
            {event.sellerId} · #{event.sequence}
          </span>
        </summary>
        {open && <pre className="raw">{raw(event)}</pre>}
      </details>
    </li>
  );
});

function raw({ id, subject, time, data }: DomainEvent): string {
  return JSON.stringify({ id, subject, time, data }, null, 2);
}

function toneOf(type: string): string {
  if (type === 'product.out_of_stock') return 'bad';
  if (type === 'product.low_stock') return 'warn';
  return type.slice(0, type.indexOf('.'));
}
