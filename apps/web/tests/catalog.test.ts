import { describe, expect, it } from 'vitest';

import {
  applyEvents,
  dropMissing,
  EMPTY_CATALOG,
  MAX_PRODUCTS,
  mergeProducts,
  mergeStock,
  rowsOf,
} from '../src/console/catalog';
import { MAX_LISTED, prepend } from '../src/console/eventLog';
import { product, productEvent, stockEvent } from './fakes';

describe('the catalog', () => {
  it('shows a product as soon as its event has come', () => {
    const catalog = applyEvents(EMPTY_CATALOG, [productEvent(product(), 'product.created')]);
    expect(rowsOf(catalog)).toMatchObject([{ id: 'p1', stock: 10, liveProduct: true }]);
  });

  it('drops an event that the answer already shows', () => {
    const held = mergeProducts(EMPTY_CATALOG, [product({ version: 3, name: 'New' })]);
    const after = applyEvents(held, [productEvent(product({ version: 3, name: 'Old' }))]);
    expect(rowsOf(after)).toMatchObject([{ name: 'New', liveProduct: false }]);
  });

  it('keeps product and inventory apart: each by its own version', () => {
    const held = mergeProducts(EMPTY_CATALOG, [product({ version: 1, inventoryVersion: 4, stock: 6 })]);
    const after = applyEvents(held, [
      stockEvent('p1', 5, 5),
      stockEvent('p1', 6, 4),
      productEvent(product({ version: 2, price: 5, stock: 6, inventoryVersion: 4 })),
    ]);
    expect(rowsOf(after)).toMatchObject([{ price: 5, stock: 5, version: 2, inventoryVersion: 5 }]);
  });

  it('keeps stock that arrives before its product does', () => {
    const early = applyEvents(EMPTY_CATALOG, [stockEvent('p1', 3, 2)]);
    expect(rowsOf(early)).toEqual([]);
    const after = mergeProducts(early, [product({ stock: 10, inventoryVersion: 0 })]);
    expect(rowsOf(after)).toMatchObject([{ stock: 3 }]);
  });

  it('never brings a deleted product back', () => {
    const gone = applyEvents(EMPTY_CATALOG, [
      productEvent(product(), 'product.created'),
      productEvent(product(), 'product.deleted', 2),
    ]);
    expect(rowsOf(mergeProducts(gone, [product({ version: 1 })]))).toEqual([]);
  });

  it('comes to the same rows in whatever order things arrive', () => {
    const steps = [
      productEvent(product({ version: 2, name: 'B' })),
      stockEvent('p1', 4, 1),
      stockEvent('p1', 3, 2),
      productEvent(product({ version: 1, name: 'A' }), 'product.created'),
      productEvent(product({ id: 'p2', version: 1 }), 'product.created'),
      productEvent(product({ id: 'p2', version: 1 }), 'product.deleted', 2),
    ];
    const expected = rowsOf(applyEvents(EMPTY_CATALOG, steps));
    for (const turn of steps.keys()) {
      const turned = [...steps.slice(turn), ...steps.slice(0, turn)];
      expect(rowsOf(applyEvents(EMPTY_CATALOG, turned))).toEqual(expected);
      const oneByOne = turned.reduce((held, step) => applyEvents(held, [step]), EMPTY_CATALOG);
      expect(rowsOf(oneByOne)).toEqual(expected);
    }
    expect(expected).toMatchObject([{ id: 'p1', name: 'B', stock: 3 }]);
  });

  it('warns of active products at or below the threshold', () => {
    const rows = rowsOf(
      mergeProducts(EMPTY_CATALOG, [
        product({ id: 'a', stock: 6 }),
        product({ id: 'b', stock: 5 }),
        product({ id: 'c', stock: 0 }),
        product({ id: 'd', stock: 0, status: 'draft' }),
      ]),
    );
    expect(Object.fromEntries(rows.map(({ id, warning }) => [id, warning]))).toEqual({
      a: null,
      b: 'low',
      c: 'out',
      d: null,
    });
  });

  it('learns the threshold from a warning', () => {
    const held = mergeProducts(EMPTY_CATALOG, [product({ stock: 8 })]);
    expect(rowsOf(held)).toMatchObject([{ warning: null }]);
    const warned = applyEvents(held, [stockEvent('p1', 8, 2, 'product.low_stock', 9)]);
    expect(rowsOf(warned)).toMatchObject([{ warning: 'low' }]);
  });

  it('takes the answer of a stock adjustment at once, and its event then changes nothing', () => {
    const held = mergeProducts(EMPTY_CATALOG, [product()]);
    const change = { productId: 'p1', stock: 7, delta: -3, reason: 'x', inventoryVersion: 1 };
    const after = mergeStock(held, change);
    expect(rowsOf(after)).toMatchObject([{ stock: 7 }]);
    expect(rowsOf(applyEvents(after, [stockEvent('p1', 7, 1)]))).toEqual(rowsOf(after));
  });

  it('shows the newest product first', () => {
    const rows = rowsOf(
      mergeProducts(EMPTY_CATALOG, [
        product({ id: 'old', createdAt: '2026-01-01T00:00:00Z' }),
        product({ id: 'new', createdAt: '2026-02-01T00:00:00Z' }),
      ]),
    );
    expect(rows.map(({ id }) => id)).toEqual(['new', 'old']);
  });

  it('forgets what a complete reading no longer shows', () => {
    const held = mergeProducts(EMPTY_CATALOG, [product({ id: 'a' }), product({ id: 'b' })]);
    const after = dropMissing(held, new Set(['a', 'b']), new Set(['b']));
    expect(rowsOf(after).map(({ id }) => id)).toEqual(['b']);
  });

  it('holds a bounded number of products', () => {
    const many = Array.from({ length: MAX_PRODUCTS + 5 }, (_, n) =>
      product({ id: `p${n}`, createdAt: new Date(n * 1000).toISOString() }),
    );
    const rows = rowsOf(mergeProducts(EMPTY_CATALOG, many));
    expect(rows).toHaveLength(MAX_PRODUCTS);
    expect(rows[0]?.id).toBe(`p${MAX_PRODUCTS + 4}`);
  });
});

describe('the event log', () => {
  it('puts what came last on top, each event once', () => {
    const [a, b, c] = [1, 2, 3].map((version) => productEvent(product({ version })));
    if (!a || !b || !c) throw new Error('three events were made');
    expect(prepend([a], [b, a, c, c])).toEqual([c, b, a]);
  });

  it('stays the same object when nothing is new', () => {
    const log = [productEvent(product())];
    expect(prepend(log, log)).toBe(log);
  });

  it('is bounded', () => {
    const events = Array.from({ length: MAX_LISTED + 3 }, (_, n) =>
      productEvent(product({ version: n + 1 })),
    );
    const log = prepend([], events);
    expect(log).toHaveLength(MAX_LISTED);
    expect(log[0]).toBe(events.at(-1));
  });
});
