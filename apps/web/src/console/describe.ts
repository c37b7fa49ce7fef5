/** One readable sentence an event. */

import type { DomainEvent, InventoryData, OrderData } from '../stream/events';
import { money } from './format';

export function describe(event: DomainEvent): string {
  switch (event.family) {
    case 'product':
      return describeProduct(event);
    case 'inventory':
      return describeInventory(event.type, event.data);
    case 'order':
      return describeOrder(event.data);
    case 'other':
      return `About ${event.subject}`;
  }
}

function describeProduct(event: DomainEvent & { readonly family: 'product' }): string {
  const { name, price, currency, stock } = event.data;
  switch (event.type) {
    case 'product.created':
      return `${name}: ${money(price, currency)}, ${units(stock)}`;
    case 'product.price_changed':
      return `${name} now costs ${money(price, currency)}`;
    case 'product.updated':
      return `${name} was changed`;
    case 'product.deleted':
      return `${name} was deleted`;
  }
}

function describeInventory(
  type: (DomainEvent & { readonly family: 'inventory' })['type'],
  data: InventoryData,
): string {
  const { name, stock, delta, reason } = data;
  const moved = Math.abs(delta);
  const why = reason === null ? '' : ` (${reason})`;
  switch (type) {
    case 'inventory.reserved':
      return `${name}: ${units(moved)} reserved, ${stock} left`;
    case 'inventory.released':
      return `${name}: ${units(moved)} given back${why}, ${stock} left`;
    case 'inventory.updated':
      return `${name}: ${signed(delta)}${why}, now ${stock}`;
    case 'product.low_stock':
      return `${name} is low: ${stock} left`;
    case 'product.out_of_stock':
      return `${name} is out of stock`;
  }
}

function describeOrder(order: OrderData): string {
  const [first] = order.items;
  const more = order.items.length - 1;
  const what = first === undefined ? '' : `${first.quantity} × ${first.name}`;
  return `${what}${more > 0 ? ` and ${more} more` : ''}: ${money(order.total, order.currency)}`;
}

function signed(delta: number): string {
  return delta < 0 ? `−${-delta}` : `+${delta}`;
}

function units(count: number): string {
  return count === 1 ? '1 unit' : `${count} units`;
}
