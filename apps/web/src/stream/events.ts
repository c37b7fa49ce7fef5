/** The events of the stream: CloudEvents whose `data` is the REST representation after a change. */

import type { Product } from '../api/types';

export const PRODUCT_EVENT_TYPES = [
  'product.created',
  'product.updated',
  'product.price_changed',
  'product.deleted',
] as const;

/** Facts about stock; the two warnings are among them: they take an inventory version. */
export const INVENTORY_EVENT_TYPES = [
  'inventory.reserved',
  'inventory.released',
  'inventory.updated',
  'product.low_stock',
  'product.out_of_stock',
] as const;

export const ORDER_EVENT_TYPES = [
  'order.created',
  'order.confirmed',
  'order.paid',
  'order.shipped',
  'order.delivered',
  'order.cancelled',
  'order.refunded',
] as const;

export type ProductEventType = (typeof PRODUCT_EVENT_TYPES)[number];
export type InventoryEventType = (typeof INVENTORY_EVENT_TYPES)[number];
export type OrderEventType = (typeof ORDER_EVENT_TYPES)[number];

export interface InventoryData {
  readonly productId: string;
  readonly sellerId: string;
  readonly name: string;
  readonly stock: number;
  readonly delta: number | null;
  readonly reason: string | null;
  readonly orderId: string | null;
  /** Set on warnings only. */
  readonly threshold: number | null;
  readonly inventoryVersion: number;
}

export interface OrderLine {
  readonly productId: string;
  readonly name: string;
  readonly quantity: number;
}

export interface OrderData {
  readonly id: string;
  readonly status: string;
  readonly sellerId: string;
  readonly items: readonly OrderLine[];
  readonly total: number;
  readonly currency: string;
}

interface Envelope {
  readonly id: string;
  readonly subject: string;
  readonly sellerId: string;
  /** 1..n without a gap per aggregate; a product and its inventory are two aggregates. */
  readonly sequence: number;
  /** RFC 3339, UTC. */
  readonly time: string;
}

export type DomainEvent = Envelope &
  (
    | { readonly family: 'product'; readonly type: ProductEventType; readonly data: Product }
    | { readonly family: 'inventory'; readonly type: InventoryEventType; readonly data: InventoryData }
    | { readonly family: 'order'; readonly type: OrderEventType; readonly data: OrderData }
    | { readonly family: 'other'; readonly type: string; readonly data: unknown }
  );

export type Family = DomainEvent['family'];

const FAMILY_OF: ReadonlyMap<string, Family> = new Map<string, Family>([
  ...PRODUCT_EVENT_TYPES.map((type) => [type, 'product'] as const),
  ...INVENTORY_EVENT_TYPES.map((type) => [type, 'inventory'] as const),
  ...ORDER_EVENT_TYPES.map((type) => [type, 'order'] as const),
]);

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
  return {
    id,
    subject,
    time,
    sellerId: typeof sellerid === 'string' ? sellerid : '',
    sequence: number,
    family: FAMILY_OF.get(type) ?? 'other',
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
