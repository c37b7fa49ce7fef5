/** The events of the stream: CloudEvents whose `data` is the REST representation after a change. */

import { EVENT_TOPICS, type EventData, type EventType } from './contract';

export type Topic = (typeof EVENT_TOPICS)[EventType];

/** The types that ride on a topic. */
type TypesOf<T extends Topic> = {
  [K in EventType]: (typeof EVENT_TOPICS)[K] extends T ? K : never;
}[EventType];

export type ProductEventType = TypesOf<'shop.products'>;
/** Facts about stock; the two warnings are among them: they take an inventory version. */
export type InventoryEventType = TypesOf<'shop.inventory'>;
export type OrderEventType = TypesOf<'shop.orders'>;

export type InventoryData = EventData[InventoryEventType];
export type OrderData = EventData[OrderEventType];

interface Envelope {
  readonly id: string;
  readonly subject: string;
  readonly sellerId: string;
  /** 1..n without a gap per (topic, subject); a product and its inventory are two aggregates. */
  readonly sequence: number;
  /** RFC 3339, UTC. */
  readonly time: string;
}

interface Known<F extends string, T extends Topic> extends Envelope {
  readonly family: F;
  readonly topic: T;
  readonly type: TypesOf<T>;
  readonly data: EventData[TypesOf<T>];
}

/** Of a newer service. */
interface Other extends Envelope {
  readonly family: 'other';
  readonly topic: null;
  readonly type: string;
  readonly data: unknown;
}

export type DomainEvent =
  | Known<'product', 'shop.products'>
  | Known<'inventory', 'shop.inventory'>
  | Known<'order', 'shop.orders'>
  | Other;

export type Family = DomainEvent['family'];

const FAMILIES: Readonly<Record<Topic, Family>> = {
  'shop.products': 'product',
  'shop.inventory': 'inventory',
  'shop.orders': 'order',
};

const TOPICS: ReadonlyMap<string, Topic> = new Map(Object.entries(EVENT_TOPICS));

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/**
 * Reads one event; null for what is none. Unknown members are ignored and an unknown type is
 * family `other`, so that a newer service does not break an open page.
 */
export function readEvent(raw: unknown): DomainEvent | null {
  if (!isObject(raw)) return null;
  const { id, type, subject, sellerid, sequence, time, data } = raw;
  if (typeof id !== 'string' || id === '' || typeof type !== 'string') return null;
  if (typeof subject !== 'string' || typeof time !== 'string' || !isObject(data)) return null;
  const number = Number(sequence);
  if (!Number.isSafeInteger(number) || number < 1) return null;
  const topic = TOPICS.get(type) ?? null;
  return {
    id,
    subject,
    time,
    sellerId: typeof sellerid === 'string' ? sellerid : '',
    sequence: number,
    family: topic === null ? 'other' : FAMILIES[topic],
    topic,
    type,
    // The services validate `data` against the schema of its type before they publish it.
    data,
  } as unknown as DomainEvent;
}

export function parseEvent(text: string): DomainEvent | null {
  try {
    return readEvent(JSON.parse(text));
  } catch {
    return null;
  }
}
