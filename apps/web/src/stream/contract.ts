/**
 * What events carry, and on which topic each type rides.
 *
 * Written by `make schemas` from the Structs of `shopstream_shared.events`: not to be edited.
 */

/** A change of a product's stock; null where a field does not apply. */
export interface Inventory {
  readonly productId: string;
  readonly sellerId: string;
  readonly name: string;
  readonly stock: number;
  readonly delta: number;
  readonly reason: string | null;
  readonly orderId: string | null;
  readonly threshold: number | null;
  readonly inventoryVersion: number;
}

/** An order as REST shows it. */
export interface Order {
  readonly id: string;
  readonly status: 'cancelled' | 'confirmed' | 'delivered' | 'paid' | 'pending' | 'refunded' | 'shipped';
  readonly customerId: string | null;
  readonly sellerId: string;
  readonly items: readonly OrderItem[];
  readonly subtotalMinor: number;
  readonly taxMinor: number;
  readonly shippingMinor: number;
  readonly total: number;
  readonly totalMinor: number;
  readonly refundedMinor: number;
  readonly currency: string;
  readonly reservedUntil: string | null;
  readonly cancelReason: 'expired' | 'requested' | null;
  readonly version: number;
  readonly createdAt: string;
  readonly updatedAt: string;
}

/** One product of an order, with name and price as they were when it was placed. */
export interface OrderItem {
  readonly productId: string;
  readonly name: string;
  readonly quantity: number;
  readonly unitPrice: number;
  readonly unitPriceMinor: number;
  readonly totalMinor: number;
}

/** The order after a refund, with the amount of this one step. */
export interface OrderRefunded {
  readonly id: string;
  readonly status: 'cancelled' | 'confirmed' | 'delivered' | 'paid' | 'pending' | 'refunded' | 'shipped';
  readonly customerId: string | null;
  readonly sellerId: string;
  readonly items: readonly OrderItem[];
  readonly subtotalMinor: number;
  readonly taxMinor: number;
  readonly shippingMinor: number;
  readonly total: number;
  readonly totalMinor: number;
  readonly refundedMinor: number;
  readonly currency: string;
  readonly reservedUntil: string | null;
  readonly cancelReason: 'expired' | 'requested' | null;
  readonly version: number;
  readonly createdAt: string;
  readonly updatedAt: string;
  readonly refundAmountMinor: number;
}

/** A product as REST shows it. `stock` is what can be sold now. */
export interface Product {
  readonly id: string;
  readonly name: string;
  readonly description: string | null;
  readonly sku: string | null;
  readonly category: string | null;
  readonly tags: readonly string[];
  readonly price: number;
  readonly priceMinor: number;
  readonly currency: string;
  readonly stock: number;
  readonly sellerId: string;
  readonly status: 'active' | 'archived' | 'draft';
  readonly version: number;
  readonly inventoryVersion: number;
  readonly createdAt: string;
  readonly updatedAt: string;
}

export const EVENT_TOPICS = {
  'product.created': 'shop.products',
  'product.updated': 'shop.products',
  'product.price_changed': 'shop.products',
  'product.deleted': 'shop.products',
  'order.created': 'shop.orders',
  'order.confirmed': 'shop.orders',
  'order.paid': 'shop.orders',
  'order.shipped': 'shop.orders',
  'order.delivered': 'shop.orders',
  'order.cancelled': 'shop.orders',
  'order.refunded': 'shop.orders',
  'inventory.reserved': 'shop.inventory',
  'inventory.released': 'shop.inventory',
  'inventory.updated': 'shop.inventory',
  'product.low_stock': 'shop.inventory',
  'product.out_of_stock': 'shop.inventory',
} as const;

export interface EventData {
  readonly 'product.created': Product;
  readonly 'product.updated': Product;
  readonly 'product.price_changed': Product;
  readonly 'product.deleted': Product;
  readonly 'order.created': Order;
  readonly 'order.confirmed': Order;
  readonly 'order.paid': Order;
  readonly 'order.shipped': Order;
  readonly 'order.delivered': Order;
  readonly 'order.cancelled': Order;
  readonly 'order.refunded': OrderRefunded;
  readonly 'inventory.reserved': Inventory;
  readonly 'inventory.released': Inventory;
  readonly 'inventory.updated': Inventory;
  readonly 'product.low_stock': Inventory;
  readonly 'product.out_of_stock': Inventory;
}

export type EventType = keyof EventData;
