/**
 * What the page knows of the products: the newest state of two aggregates a product, the product
 * itself (by `version`) and its inventory (by `inventoryVersion`).
 *
 * Answers and events arrive in any order, and what an answer shows may come again as an event. So
 * everything is merged by one rule: what is not newer than what is held is dropped. The result does
 * not depend on the order of arrival.
 */

import type { Product, StockChange } from '../api/types';
import type { DomainEvent } from '../stream/events';

/** Products held at most; the oldest go first. */
export const MAX_PRODUCTS = 2_000;
/** Inventory facts and deletions remembered at most, products not in the table included. */
const MAX_REMEMBERED = 10_000;
/** Until a warning says otherwise: the API's own default of LOW_STOCK_THRESHOLD. */
export const DEFAULT_THRESHOLD = 5;

interface Inventory {
  readonly stock: number;
  readonly inventoryVersion: number;
  readonly live: boolean;
}

interface Held {
  readonly product: Product;
  readonly live: boolean;
}

export interface Catalog {
  readonly products: ReadonlyMap<string, Held>;
  readonly inventories: ReadonlyMap<string, Inventory>;
  readonly deleted: ReadonlySet<string>;
  readonly threshold: number;
}

/** A line of the table. `live…` tells that the stream, not an answer, brought the newest state. */
export interface Row extends Product {
  readonly liveProduct: boolean;
  readonly liveStock: boolean;
  readonly warning: 'out' | 'low' | null;
}

export const EMPTY_CATALOG: Catalog = {
  products: new Map(),
  inventories: new Map(),
  deleted: new Set(),
  threshold: DEFAULT_THRESHOLD,
};

/** One copy for any number of changes: a burst of events costs one pass, not one each. */
class Draft {
  readonly products: Map<string, Held>;
  readonly inventories: Map<string, Inventory>;
  readonly deleted: Set<string>;
  threshold: number;

  constructor(from: Catalog) {
    this.products = new Map(from.products);
    this.inventories = new Map(from.inventories);
    this.deleted = new Set(from.deleted);
    this.threshold = from.threshold;
  }

  product(product: Product, live: boolean): void {
    this.inventory(product.id, product.stock, product.inventoryVersion, live);
    if (this.deleted.has(product.id)) return;
    const held = this.products.get(product.id);
    if (held && held.product.version >= product.version) return;
    this.products.set(product.id, { product, live });
  }

  inventory(id: string, stock: number, inventoryVersion: number, live: boolean): void {
    const held = this.inventories.get(id);
    if (held && held.inventoryVersion >= inventoryVersion) return;
    this.inventories.set(id, { stock, inventoryVersion, live });
  }

  delete(id: string): void {
    this.deleted.add(id);
    this.products.delete(id);
    this.inventories.delete(id);
  }

  event(event: DomainEvent): void {
    if (event.family === 'product') {
      if (event.type === 'product.deleted') this.delete(event.subject);
      else this.product({ ...event.data, version: event.sequence }, true);
    } else if (event.family === 'inventory') {
      this.inventory(event.subject, event.data.stock, event.sequence, true);
      if (event.type === 'product.low_stock' && event.data.threshold !== null) {
        this.threshold = event.data.threshold;
      }
    }
  }

  finish(): Catalog {
    trimOldest(this.inventories, MAX_REMEMBERED);
    trimOldest(this.deleted, MAX_REMEMBERED);
    if (this.products.size > MAX_PRODUCTS) {
      const newest = [...this.products].sort(([, a], [, b]) => newestFirst(a.product, b.product));
      for (const [id] of newest.slice(MAX_PRODUCTS)) this.products.delete(id);
    }
    return this;
  }
}

function trimOldest(held: Map<string, unknown> | Set<string>, bound: number): void {
  for (const key of held.keys()) {
    if (held.size <= bound) return;
    held.delete(key);
  }
}

function newestFirst(a: Product, b: Product): number {
  return compare(b.createdAt, a.createdAt) || compare(b.id, a.id);
}

function compare(a: string, b: string): number {
  return a < b ? -1 : Number(a > b);
}

export function applyEvents(catalog: Catalog, events: readonly DomainEvent[]): Catalog {
  const draft = new Draft(catalog);
  for (const event of events) draft.event(event);
  return draft.finish();
}

export function mergeProducts(catalog: Catalog, products: readonly Product[]): Catalog {
  const draft = new Draft(catalog);
  for (const product of products) draft.product(product, false);
  return draft.finish();
}

/** Takes the answer of a stock command: the caller sees it without waiting for the event. */
export function mergeStock(catalog: Catalog, change: StockChange): Catalog {
  const draft = new Draft(catalog);
  draft.inventory(change.productId, change.stock, change.inventoryVersion, true);
  return draft.finish();
}

/**
 * Ends a reload after a gap: of the products held when it began (`before`), those that a complete
 * snapshot no longer shows were deleted while nobody was listening.
 */
export function dropMissing(
  catalog: Catalog,
  before: ReadonlySet<string>,
  snapshot: ReadonlySet<string>,
): Catalog {
  const draft = new Draft(catalog);
  for (const id of before) if (!snapshot.has(id)) draft.products.delete(id);
  return draft.finish();
}

export function rowsOf(catalog: Catalog): Row[] {
  const rows = [...catalog.products.values()].map(({ product, live }): Row => {
    const inventory = catalog.inventories.get(product.id);
    const stock = inventory?.stock ?? product.stock;
    return {
      ...product,
      stock,
      inventoryVersion: inventory?.inventoryVersion ?? product.inventoryVersion,
      liveProduct: live,
      liveStock: inventory?.live ?? false,
      warning: warningFor(product.status, stock, catalog.threshold),
    };
  });
  return rows.sort(newestFirst);
}

/** Only what can be ordered can be short. */
function warningFor(status: string, stock: number, threshold: number): Row['warning'] {
  if (status !== 'active') return null;
  if (stock <= 0) return 'out';
  return stock <= threshold ? 'low' : null;
}
