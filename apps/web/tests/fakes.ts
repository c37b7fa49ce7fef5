/** Stand-ins for what the page's own ports need, and sample data. */

import type { Product } from '../src/api/types';
import type { Source, StreamEnvironment } from '../src/stream/client';
import type { DomainEvent, InventoryEventType, ProductEventType } from '../src/stream/events';

export class FakeSource implements Source {
  readyState = 0;
  closed = false;
  readonly url: string;
  readonly #listeners = new Map<string, ((event: MessageEvent<string>) => void)[]>();

  constructor(url: string) {
    this.url = url;
  }

  addEventListener(type: string, listener: (event: MessageEvent<string>) => void): void {
    this.#listeners.set(type, [...(this.#listeners.get(type) ?? []), listener]);
  }

  close(): void {
    this.closed = true;
    this.readyState = 2;
  }

  emit(type: string, data: unknown = {}, lastEventId = ''): void {
    const text = typeof data === 'string' ? data : JSON.stringify(data);
    const event = new MessageEvent(type, { data: text, lastEventId });
    for (const listener of this.#listeners.get(type) ?? []) listener(event);
  }

  fail(readyState: 0 | 2): void {
    this.readyState = readyState;
    this.emit('error');
  }
}

/** Time that stands still until it is told to pass. */
export class FakeEnvironment implements StreamEnvironment {
  readonly sources: FakeSource[] = [];
  #now = 0;
  #next = 1;
  readonly #timers = new Map<number, { readonly at: number; readonly run: () => void }>();

  readonly createSource = (url: string): Source => {
    const source = new FakeSource(url);
    this.sources.push(source);
    return source;
  };

  readonly setTimer = (run: () => void, ms: number): number => {
    const timer = this.#next++;
    this.#timers.set(timer, { at: this.#now + ms, run });
    return timer;
  };

  readonly clearTimer = (timer: number): void => {
    this.#timers.delete(timer);
  };

  readonly random = (): number => 0.5;

  get newest(): FakeSource {
    const source = this.sources.at(-1);
    if (source === undefined) throw new Error('no connection was made');
    return source;
  }

  get pendingTimers(): number {
    return this.#timers.size;
  }

  pass(ms: number): void {
    this.#now += ms;
    for (const [timer, { at, run }] of [...this.#timers]) {
      if (at <= this.#now && this.#timers.delete(timer)) run();
    }
  }
}

export function product(change: Partial<Product> = {}): Product {
  return {
    id: 'p1',
    name: 'Lamp',
    description: null,
    sku: null,
    category: null,
    tags: [],
    price: 99.99,
    priceMinor: 9999,
    currency: 'USD',
    stock: 10,
    sellerId: 'seller1',
    status: 'active',
    version: 1,
    inventoryVersion: 0,
    createdAt: '2026-11-21T05:00:00.000000Z',
    updatedAt: '2026-11-21T05:00:00.000000Z',
    ...change,
  };
}

let eventNumber = 0;

export function productEvent(
  data: Product,
  type: ProductEventType = 'product.updated',
  sequence: number = data.version,
): DomainEvent {
  eventNumber += 1;
  return {
    id: `event-${eventNumber}`,
    subject: data.id,
    sellerId: data.sellerId,
    sequence,
    time: data.updatedAt,
    family: 'product',
    type,
    data,
  };
}

export function stockEvent(
  id: string,
  stock: number,
  sequence: number,
  type: InventoryEventType = 'inventory.updated',
  threshold: number | null = null,
): DomainEvent {
  eventNumber += 1;
  return {
    id: `event-${eventNumber}`,
    subject: id,
    sellerId: 'seller1',
    sequence,
    time: '2026-11-21T05:00:01.000000Z',
    family: 'inventory',
    type,
    data: {
      productId: id,
      sellerId: 'seller1',
      name: 'Lamp',
      stock,
      delta: -1,
      reason: 'damaged',
      orderId: null,
      threshold,
      inventoryVersion: sequence,
    },
  };
}

/** The event as the stream sends it. */
export function wire(event: DomainEvent): string {
  const { id, type, subject, sellerId, sequence, time, data } = event;
  return JSON.stringify({
    specversion: '1.0',
    id,
    source: '/shopstream/api',
    type,
    subject,
    time,
    sellerid: sellerId,
    sequence: String(sequence),
    data,
  });
}
