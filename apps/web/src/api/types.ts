/** The shapes of the REST API that the console uses. */

export const PRODUCT_STATUSES = ['draft', 'active', 'archived'] as const;
export type ProductStatus = (typeof PRODUCT_STATUSES)[number];

export interface Product {
  readonly id: string;
  readonly name: string;
  readonly description: string | null;
  readonly sku: string | null;
  readonly category: string | null;
  readonly tags: readonly string[];
  /** Major units of `currency`. */
  readonly price: number;
  readonly priceMinor: number;
  readonly currency: string;
  /** Sellable units: what orders hold is already taken off. */
  readonly stock: number;
  readonly sellerId: string;
  readonly status: ProductStatus;
  readonly version: number;
  readonly inventoryVersion: number;
  readonly createdAt: string;
  readonly updatedAt: string;
}

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
