import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import type { ProductPage } from '../src/api/client';
import type { Product } from '../src/api/types';
import { rowsOf } from '../src/console/catalog';
import { ConsoleStore, FLUSH_MS } from '../src/console/store';
import type { StreamHandlers } from '../src/stream/port';
import { product, productEvent, stockEvent } from './fakes';

function page(data: readonly Product[], rest: Partial<ProductPage> = {}): ProductPage {
  return { data, hasMore: false, nextCursor: null, position: 'pos-1', ...rest };
}

function setUp(...pages: (ProductPage | Error)[]) {
  const asked: (string | null)[] = [];
  const startedAt: (string | null)[] = [];
  const order: string[] = [];
  let handlers: StreamHandlers | null = null;
  let closed = false;
  const store = new ConsoleStore({
    api: {
      listProducts: (cursor) => {
        asked.push(cursor);
        order.push('read');
        const next = pages.length > 1 ? pages.shift() : pages[0];
        return next instanceof Error || next === undefined
          ? Promise.reject(next ?? new Error('no page'))
          : Promise.resolve(next);
      },
    },
    connect: (given) => {
      handlers = given;
      return {
        listen: () => {
          order.push('listen');
          return Promise.resolve();
        },
        open: (startAt) => {
          startedAt.push(startAt);
        },
        close: () => {
          closed = true;
        },
      };
    },
    random: () => 0.5,
  });
  return {
    store,
    asked,
    startedAt,
    order,
    pages,
    isClosed: () => closed,
    on: (): StreamHandlers => {
      if (handlers === null) throw new Error('the stream was not opened');
      return handlers;
    },
    names: () => rowsOf(store.getState().catalog).map(({ name }) => name),
  };
}

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

describe('the store', () => {
  it('reads all pages and follows the stream from the first one’s position', async () => {
    const t = setUp(
      page([product({ id: 'a', name: 'A' })], { hasMore: true, nextCursor: 'c2' }),
      page([product({ id: 'b', name: 'B' })], { position: 'pos-2' }),
    );
    await t.store.start();
    expect(t.asked).toEqual([null, 'c2']);
    expect(t.startedAt).toEqual(['pos-1']);
    expect(t.order).toEqual(['listen', 'read', 'read']);
    expect(t.names().sort()).toEqual(['A', 'B']);
    expect(t.store.getState().loading).toBe('done');
    t.on().onOpen?.();
    expect(t.asked).toHaveLength(2);
  });

  it('reads once more after connecting when the API gives no position', async () => {
    const t = setUp(page([], { position: null }), page([product({ name: 'Between' })]));
    await t.store.start();
    t.on().onOpen?.();
    await vi.runAllTimersAsync();
    expect(t.names()).toEqual(['Between']);
  });

  it('shows a burst of events in one change', async () => {
    const t = setUp(page([product()]));
    await t.store.start();
    let changes = 0;
    t.store.subscribe(() => {
      changes += 1;
    });
    for (const sequence of [1, 2, 3, 4]) t.on().onEvent(stockEvent('p1', 10 - sequence, sequence));
    expect(changes).toBe(0);
    vi.advanceTimersByTime(FLUSH_MS);
    expect(changes).toBe(1);
    expect(t.store.getState()).toMatchObject({ received: 4 });
    expect(rowsOf(t.store.getState().catalog)).toMatchObject([{ stock: 6 }]);
  });

  it('reads again after a gap and forgets what was deleted meanwhile', async () => {
    const t = setUp(page([product({ id: 'a', name: 'A' }), product({ id: 'b', name: 'B' })]));
    await t.store.start();
    t.pages.splice(0, 1, page([product({ id: 'b', name: 'B', version: 2 })]));
    t.on().onGap('evicted');
    await vi.runAllTimersAsync();
    expect(t.names()).toEqual(['B']);
    expect(t.store.getState().gap).toBe('evicted');
    t.store.dismissGap();
    expect(t.store.getState().gap).toBeNull();
  });

  it('says why the stream is refused, until it is not', async () => {
    const t = setUp(page([]));
    await t.store.start();
    t.on().onRefused?.('address');
    expect(t.store.getState().refused).toBe('address');
    t.on().onRefused?.(null);
    expect(t.store.getState().refused).toBeNull();
  });

  it('keeps a product that was created while the reading after a gap went on', async () => {
    const t = setUp(page([product({ id: 'a', name: 'A' })]));
    await t.store.start();
    t.on().onGap('lagged');
    t.on().onEvent(productEvent(product({ id: 'n', name: 'N' }), 'product.created'));
    await vi.runAllTimersAsync();
    expect(t.names().sort()).toEqual(['A', 'N']);
  });

  it('joins many calls to reload into one more reading', async () => {
    const t = setUp(page([]));
    await t.store.start();
    for (const reason of ['lagged', 'evicted', 'future'] as const) t.on().onGap(reason);
    await vi.runAllTimersAsync();
    expect(t.asked).toHaveLength(3);
  });

  it('says why nothing is there, keeps trying, and recovers', async () => {
    const t = setUp(new Error('down'), page([product({ name: 'Back' })]));
    await t.store.start();
    expect(t.store.getState()).toMatchObject({ loadError: 'down', loading: 'first' });
    expect(t.startedAt).toEqual([null]);
    await vi.runAllTimersAsync();
    expect(t.store.getState()).toMatchObject({ loadError: null, loading: 'done' });
    expect(t.names()).toEqual(['Back']);
  });

  it('shows its own writes before their events come', async () => {
    const t = setUp(page([product()]));
    await t.store.start();
    t.store.saved(product({ version: 2, name: 'Renamed' }));
    t.store.stockChanged({ productId: 'p1', stock: 2, delta: -8, reason: 'x', inventoryVersion: 1 });
    expect(rowsOf(t.store.getState().catalog)).toMatchObject([{ name: 'Renamed', stock: 2 }]);
  });

  it('puts stored events below those of the stream, each once', async () => {
    const [older, newer] = [productEvent(product()), productEvent(product({ version: 2 }))];
    let answer: (events: readonly (typeof older)[]) => void = () => undefined;
    const store = new ConsoleStore({
      api: { listProducts: () => Promise.resolve(page([])) },
      connect: (handlers) => {
        handlers.onEvent(newer);
        return {
          listen: () => Promise.resolve(),
          open: () => undefined,
          close: () => undefined,
        };
      },
      recent: () =>
        new Promise((resolve) => {
          answer = resolve;
        }),
    });
    await store.start();
    vi.advanceTimersByTime(FLUSH_MS);
    answer([newer, older]);
    await vi.runAllTimersAsync();
    expect(store.getState().log).toEqual([newer, older]);
    expect(store.getState().received).toBe(1);
  });

  it('is silent once stopped', async () => {
    const t = setUp(page([]));
    await t.store.start();
    t.store.stop();
    const before = t.store.getState();
    t.on().onEvent(productEvent(product()));
    await vi.runAllTimersAsync();
    expect(t.store.getState()).toBe(before);
    expect(t.isClosed()).toBe(true);
  });
});
