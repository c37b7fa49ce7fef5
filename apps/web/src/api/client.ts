/** The console's side of the REST API: addresses, headers, time-outs and problems. */

import { ApiProblem, NoAnswer, readProblem } from './problem';
import type { Page, Product, ProductDraft, ProductPatch, StockChange } from './types';

const REQUEST_TIMEOUT_MS = 15_000;

interface Call {
  readonly method: 'GET' | 'POST' | 'PATCH';
  readonly path: string;
  readonly body?: unknown;
  readonly headers?: Record<string, string>;
  readonly signal?: AbortSignal;
}

interface Answer<T> {
  readonly body: T;
  readonly headers: Headers;
}

/** A page of products and the stream id from which nothing is missed after it. */
export interface ProductPage extends Page<Product> {
  readonly position: string | null;
}

export interface Versioned<T> {
  readonly value: T;
  readonly etag: string | null;
}

export class ApiClient {
  readonly #base: string;
  readonly #seller: string | null;
  readonly #fetch: typeof fetch;

  /** Writes carry `seller` as X-Seller-Id; without one the caller may act for any seller. */
  constructor(base: string, seller: string | null, fetchImpl: typeof fetch = fetch) {
    this.#base = base;
    this.#seller = seller;
    this.#fetch = fetchImpl.bind(globalThis);
  }

  async listProducts(
    cursor: string | null,
    limit: number,
    signal?: AbortSignal,
  ): Promise<ProductPage> {
    const query = new URLSearchParams({ limit: String(limit) });
    if (cursor !== null) query.set('cursor', cursor);
    if (this.#seller !== null) query.set('sellerId', this.#seller);
    const { body, headers } = await this.#call<Page<Product>>({
      method: 'GET',
      path: `/products?${query.toString()}`,
      ...(signal && { signal }),
    });
    return { ...body, position: headers.get('X-Stream-Position') };
  }

  async getProduct(id: string, signal?: AbortSignal): Promise<Versioned<Product>> {
    return versioned(
      await this.#call<Product>({ method: 'GET', path: productPath(id), ...(signal && { signal }) }),
    );
  }

  async createProduct(draft: ProductDraft, key: string): Promise<Product> {
    const { body } = await this.#call<Product>({
      method: 'POST',
      path: '/products',
      body: draft,
      headers: { 'Idempotency-Key': key },
    });
    return body;
  }

  /** With an ETag the change is refused (412) when somebody else changed the product meanwhile. */
  async patchProduct(id: string, patch: ProductPatch, etag: string | null): Promise<Product> {
    const { body } = await this.#call<Product>({
      method: 'PATCH',
      path: productPath(id),
      body: patch,
      headers: etag === null ? {} : { 'If-Match': etag },
    });
    return body;
  }

  async adjustStock(
    id: string,
    change: { readonly delta: number; readonly reason: string },
    key: string,
  ): Promise<StockChange> {
    const { body } = await this.#call<StockChange>({
      method: 'POST',
      path: `${productPath(id)}/stock-adjustments`,
      body: change,
      headers: { 'Idempotency-Key': key },
    });
    return body;
  }

  async #call<T>(call: Call): Promise<Answer<T>> {
    const headers: Record<string, string> = { Accept: 'application/json', ...call.headers };
    // Reads are public; without headers of its own a read needs no preflight either.
    if (this.#seller !== null && call.method !== 'GET') headers['X-Seller-Id'] = this.#seller;
    if (call.body !== undefined) headers['Content-Type'] = 'application/json';
    const timeout = AbortSignal.timeout(REQUEST_TIMEOUT_MS);
    let response: Response;
    let text: string;
    try {
      response = await this.#fetch(this.#base + call.path, {
        method: call.method,
        headers,
        signal: call.signal ? AbortSignal.any([call.signal, timeout]) : timeout,
        ...(call.body !== undefined && { body: JSON.stringify(call.body) }),
      });
      text = await response.text();
    } catch (error) {
      throw new NoAnswer(error);
    }
    const body = parse(text);
    if (!response.ok || body === undefined) {
      throw new ApiProblem(readProblem(response.status, body, response.headers.get('X-Request-Id')));
    }
    return { body: body as T, headers: response.headers };
  }
}

function productPath(id: string): string {
  return `/products/${encodeURIComponent(id)}`;
}

function versioned<T>(answer: Answer<T>): Versioned<T> {
  return { value: answer.body, etag: answer.headers.get('ETag') };
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}
