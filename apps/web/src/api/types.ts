/** The shapes of the REST API that the console uses. */

import type { Product } from '../stream/contract';

export type { Product };

export const PRODUCT_STATUSES = ['draft', 'active', 'archived'] as const;
export type ProductStatus = Product['status'];

/** The members a client may write; the rest is the server's. */
export interface ProductDraft {
  name: string;
  price: number;
  currency: string;
  stock: number;
  sellerId: string;
  status: ProductStatus;
  description: string | null;
  sku: string | null;
  category: string | null;
  tags: readonly string[];
}

export type ProductPatch = Partial<Omit<ProductDraft, 'stock' | 'sellerId'>>;

export interface Page<T> {
  readonly data: readonly T[];
  readonly hasMore: boolean;
  readonly nextCursor: string | null;
}

export interface StockChange {
  readonly productId: string;
  readonly stock: number;
  readonly delta: number;
  readonly reason: string | null;
  readonly inventoryVersion: number;
}
