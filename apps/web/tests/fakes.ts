/** Stand-ins for what the page's own ports need, and sample data. */

import type { Product } from '../src/api/types';
import type { StreamEnvironment } from '../src/stream/port';
import type { DomainEvent, InventoryEventType, ProductEventType } from '../src/stream/events';

/** One request of the stream and its answer, fed by the test. */
export class FakeConnection {
  readonly url: string;
  readonly headers: Headers;
  readonly #signal: AbortSignal | null;
  readonly #encoder = new TextEncoder();
  #body: ReadableStreamDefaultController<Uint8Array> | null = null;

  constructor(url: string, init: RequestInit) {
    this.url = url;
    this.headers = new Headers(init.headers);
    this.#signal = init.signal ?? null;
  }

  get lastEventId(): string | null {
    return this.headers.get('Last-Event-ID');
  }

  /** Whether the client gave it up. */
  get closed(): boolean {
    return this.#signal?.aborted ?? false;
  }

  response(): Response {
    const body = new ReadableStream<Uint8Array>({
      start: (controller) => {
        this.#body = controller;
        this.#signal?.addEventListener('abort', () => {
          controller.error(new DOMException('given up', 'AbortError'));
        });
      },
    });
    const headers = { 'Content-Type': 'text/event-stream; charset=utf-8' };
    return new Response(body, { headers });
  }

  send(text: string): Promise<void> {
    this.#body?.enqueue(this.#encoder.encode(text));
    return settled();
  }

  /** An event as the service frames it: `message` has no name, and only it has an id. */
  emit(type: string, data: unknown = {}, id = ''): Promise<void> {
    const text = typeof data === 'string' ? data : JSON.stringify(data);
    const name = type === 'message' ? '' : `event: ${type}\n`;
    return this.send(`${id === '' ? '' : `id: ${id}\n`}${name}data: ${text}\n\n`);
  }

  open(resumed: boolean): Promise<void> {
    return this.emit('stream.open', { resumed, replayFrom: null });
  }

  /** The server ends the answer as it should. */
  end(): Promise<void> {
    this.#body?.close();
    return settled();
  }

  cut(): Promise<void> {
    this.#body?.error(new TypeError('network error'));
    return settled();
  }
}

/** Until all that was begun has gone as far as it can without a timer. */
export async function settled(): Promise<void> {
  for (let turn = 0; turn < 5; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}

/** Time that stands still until it is told to pass, and a server that takes every connection. */
export class FakeEnvironment implements StreamEnvironment {
  readonly connections: FakeConnection[] = [];
  /** What the next requests get instead of a stream. */
  readonly answers: (Response | Error | Promise<Response>)[] = [];
  #now = 0;
  #next = 1;
  readonly #timers = new Map<number, { readonly at: number; readonly run: () => void }>();

  readonly fetch = (url: string, init: RequestInit): Promise<Response> => {
    const connection = new FakeConnection(url, init);
    this.connections.push(connection);
    const answer = this.answers.shift() ?? connection.response();
    return answer instanceof Error ? Promise.reject(answer) : Promise.resolve(answer);
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

  get newest(): FakeConnection {
    const connection = this.connections.at(-1);
    if (connection === undefined) throw new Error('no connection was made');
    return connection;
  }

  get pendingTimers(): number {
    return this.#timers.size;
  }

  pass(ms: number): Promise<void> {
    this.#now += ms;
    for (const [timer, { at, run }] of [...this.#timers]) {
      if (at <= this.#now && this.#timers.delete(timer)) run();
    }
    return settled();
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
    topic: 'shop.products',
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
    topic: 'shop.inventory',
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
