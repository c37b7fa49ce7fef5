/** The product form's text fields, and the way from them to a request body and back from errors. */

import type { Problem } from '../api/problem';
import {
  PRODUCT_STATUSES,
  type Product,
  type ProductDraft,
  type ProductPatch,
  type ProductStatus,
} from '../api/types';

export const PRODUCT_FIELDS = [
  'name',
  'price',
  'currency',
  'stock',
  'sellerId',
  'status',
  'sku',
  'category',
  'tags',
  'description',
] as const;

export type ProductField = (typeof PRODUCT_FIELDS)[number];
export type ProductValues = Readonly<Record<ProductField, string>>;
export type FieldErrors<F extends string> = Readonly<Partial<Record<F, string>>>;

export type Outcome<T, F extends string> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly errors: FieldErrors<F> };

const DECIMAL = /^\d+(\.\d+)?$/;
const WHOLE = /^\d+$/;
/** Up to here a JSON number written by a browser has exactly the digits that were typed. */
const EXACT_DIGITS = 15;

export function emptyValues(sellerId: string): ProductValues {
  return {
    name: '',
    price: '',
    currency: 'USD',
    stock: '0',
    sellerId,
    status: 'active',
    sku: '',
    category: '',
    tags: '',
    description: '',
  };
}

export function valuesOf(product: Product): ProductValues {
  return {
    name: product.name,
    price: String(product.price),
    currency: product.currency,
    stock: String(product.stock),
    sellerId: product.sellerId,
    status: product.status,
    sku: product.sku ?? '',
    category: product.category ?? '',
    tags: product.tags.join(', '),
    description: product.description ?? '',
  };
}

/** Only what has no JSON form is refused here; every rule of the shop is the API's to decide. */
export function toDraft(values: ProductValues): Outcome<ProductDraft, ProductField> {
  const errors: Partial<Record<ProductField, string>> = {};
  const price = values.price.trim();
  if (values.name.trim() === '') errors.name = 'Give the product a name.';
  if (!DECIMAL.test(price)) errors.price = 'Enter an amount such as 12.50.';
  else if (price.replace(/^0+|\./g, '').length > EXACT_DIGITS) errors.price = 'This is too much.';
  if (!WHOLE.test(values.stock.trim())) errors.stock = 'Enter a whole number, 0 or more.';
  if (values.sellerId.trim() === '') errors.sellerId = 'Say whose product it is.';
  if (Object.keys(errors).length > 0) return { ok: false, errors };
  return {
    ok: true,
    value: {
      name: values.name,
      price: Number(price),
      currency: values.currency.trim().toUpperCase(),
      stock: Number(values.stock.trim()),
      sellerId: values.sellerId.trim(),
      status: statusOf(values.status),
      description: orNull(values.description),
      sku: orNull(values.sku),
      category: orNull(values.category),
      tags: tagsOf(values.tags),
    },
  };
}

/** A merge patch of what differs from `base`; null when nothing does. */
export function patchBetween(base: Product, draft: ProductDraft): ProductPatch | null {
  const patch: ProductPatch = {};
  if (draft.name !== base.name) patch.name = draft.name;
  if (draft.price !== base.price) patch.price = draft.price;
  if (draft.currency !== base.currency) patch.currency = draft.currency;
  if (draft.status !== base.status) patch.status = draft.status;
  if (draft.description !== base.description) patch.description = draft.description;
  if (draft.sku !== base.sku) patch.sku = draft.sku;
  if (draft.category !== base.category) patch.category = draft.category;
  // Compared as the field shows them: a tag with a comma in it is not a change.
  if (draft.tags.join(', ') !== tagsOf(base.tags.join(', ')).join(', ')) patch.tags = draft.tags;
  return Object.keys(patch).length === 0 ? null : patch;
}

/** Puts each error at the field its pointer names; what names none is for the form's head. */
export function placeErrors<F extends string>(
  problem: Problem,
  fields: readonly F[],
): { readonly fields: FieldErrors<F>; readonly rest: readonly string[] } {
  const placed: Partial<Record<F, string>> = {};
  const rest: string[] = [];
  for (const { pointer, detail: raw } of problem.errors) {
    const detail = sentence(raw);
    const member = pointer.split('/')[1];
    const field = fields.find((name) => name === member);
    if (field === undefined) rest.push(detail);
    else placed[field] = placed[field] === undefined ? detail : `${placed[field]} ${detail}`;
  }
  if (Object.keys(placed).length === 0 && rest.length === 0) rest.push(sentence(problem.detail));
  return { fields: placed, rest };
}

/** Details are written to follow a pointer; below a field they stand alone. */
function sentence(detail: string): string {
  const text = detail.charAt(0).toUpperCase() + detail.slice(1);
  return /[.!?]$/.test(text) ? text : `${text}.`;
}

function orNull(text: string): string | null {
  return text === '' ? null : text;
}

function tagsOf(text: string): string[] {
  return text
    .split(',')
    .map((tag) => tag.trim())
    .filter((tag) => tag !== '');
}

function statusOf(text: string): ProductStatus {
  return PRODUCT_STATUSES.find((status) => status === text) ?? 'active';
}
