import { render, screen, waitFor, within } from '@testing-library/react';
import userEvent from '@testing-library/user-event';
import { describe, expect, it, vi } from 'vitest';

import { ApiProblem, readProblem } from '../src/api/problem';
import type { Product } from '../src/api/types';
import { AdjustStock } from '../src/components/AdjustStock';
import { EventPanel } from '../src/components/EventPanel';
import { Notices } from '../src/components/Notices';
import { CreateProduct, EditProduct } from '../src/components/ProductDialogs';
import { ProductPanel } from '../src/components/ProductPanel';
import { SellerPicker } from '../src/components/SellerPicker';
import { EMPTY_CATALOG, mergeProducts, rowsOf } from '../src/console/catalog';
import { product, productEvent, stockEvent } from './fakes';

const nothing = (): void => undefined;

function panel(products: readonly Product[]) {
  return (
    <ProductPanel
      rows={rowsOf(mergeProducts(EMPTY_CATALOG, products))}
      loading="done"
      truncated={false}
      showSeller
      onCreate={nothing}
      onEdit={nothing}
      onStock={nothing}
    />
  );
}

describe('the product panel', () => {
  it('counts what is low, and shows only that when asked', async () => {
    render(
      panel([
        product({ id: 'a', name: 'Plenty', stock: 50 }),
        product({ id: 'b', name: 'Few', stock: 2 }),
        product({ id: 'c', name: 'None', stock: 0 }),
      ]),
    );
    const badge = screen.getByRole('button', { name: /2 low on stock.*1 of them out/ });
    await userEvent.click(badge);
    expect(screen.queryByText('Plenty')).toBeNull();
    expect(within(screen.getByRole('table')).getByText('Few')).toBeTruthy();
  });

  it('draws a row again when only the threshold moved', () => {
    const { rerender } = render(panel([product({ stock: 8 })]));
    expect(screen.queryByText('Low')).toBeNull();
    const catalog = mergeProducts({ ...EMPTY_CATALOG, threshold: 9 }, [product({ stock: 8 })]);
    rerender(
      <ProductPanel
        rows={rowsOf(catalog)}
        loading="done"
        truncated={false}
        showSeller
        onCreate={nothing}
        onEdit={nothing}
        onStock={nothing}
      />,
    );
    expect(screen.getByText('Low')).toBeTruthy();
  });

  it('searches names, SKUs, categories and sellers', async () => {
    render(panel([product({ id: 'a', name: 'Lamp' }), product({ id: 'b', name: 'Mug', sku: 'M-1' })]));
    await userEvent.type(screen.getByRole('searchbox'), 'm-1');
    expect(screen.queryByText('Lamp')).toBeNull();
    expect(screen.getByText('Mug')).toBeTruthy();
    await userEvent.type(screen.getByRole('searchbox'), 'zzz');
    expect(screen.getByText('No product matches.')).toBeTruthy();
  });
});

describe('creating a product', () => {
  it('shows each error at its field, focuses the first, and saves once put right', async () => {
    const refusal = readProblem(
      422,
      { detail: 'x', errors: [{ pointer: '/price', code: 'x', detail: 'Two decimals at most.' }] },
      null,
    );
    const createProduct = vi
      .fn<(draft: unknown, key: string) => Promise<Product>>()
      .mockRejectedValueOnce(new ApiProblem(refusal))
      .mockResolvedValueOnce(product());
    const saved = vi.fn();
    render(
      <CreateProduct api={{ createProduct }} seller="seller1" onSaved={saved} onClose={nothing} />,
    );
    await userEvent.type(screen.getByLabelText('Name'), 'Lamp');
    await userEvent.click(screen.getByRole('button', { name: 'Create product' }));
    const price = screen.getByLabelText('Price');
    expect(createProduct).not.toHaveBeenCalled();
    await waitFor(() => {
      expect(document.activeElement).toBe(price);
    });
    await userEvent.type(price, '1.234');
    await userEvent.click(screen.getByRole('button', { name: 'Create product' }));
    expect(await screen.findByText('Two decimals at most.')).toBeTruthy();
    expect(price.getAttribute('aria-invalid')).toBe('true');
    await userEvent.clear(price);
    await userEvent.type(price, '1.23');
    await userEvent.click(screen.getByRole('button', { name: 'Create product' }));
    await waitFor(() => {
      expect(saved).toHaveBeenCalledWith(product());
    });
    expect(createProduct.mock.calls[1]?.[0]).toMatchObject({ price: 1.23, sellerId: 'seller1' });
  });

  it('puts a SKU already used at the SKU field', async () => {
    const taken = new ApiProblem(readProblem(409, { code: 'duplicate_sku', detail: 'Used.' }, null));
    const createProduct = () => Promise.reject(taken);
    render(<CreateProduct api={{ createProduct }} seller="s" onSaved={nothing} onClose={nothing} />);
    await userEvent.type(screen.getByLabelText('Name'), 'Lamp');
    await userEvent.type(screen.getByLabelText('Price'), '1');
    await userEvent.click(screen.getByRole('button', { name: 'Create product' }));
    await screen.findByText('Used.');
    expect(screen.getByLabelText('SKU').getAttribute('aria-invalid')).toBe('true');
  });
});

describe('editing a product', () => {
  it('sends the change with the ETag it was read under', async () => {
    const patchProduct = vi.fn(() => Promise.resolve(product({ version: 2 })));
    const saved = vi.fn();
    const api = {
      getProduct: () => Promise.resolve({ value: product(), etag: '"v1.0"' }),
      patchProduct,
    };
    render(<EditProduct api={api} id="p1" newestVersion={1} onSaved={saved} onClose={nothing} />);
    const name = await screen.findByLabelText('Name');
    await userEvent.clear(name);
    await userEvent.type(name, 'Lantern');
    await userEvent.click(screen.getByRole('button', { name: 'Save changes' }));
    await waitFor(() => {
      expect(saved).toHaveBeenCalled();
    });
    expect(patchProduct).toHaveBeenCalledWith('p1', { name: 'Lantern' }, '"v1.0"');
  });

  it('offers the newest when somebody else saved meanwhile', async () => {
    const getProduct = vi
      .fn()
      .mockResolvedValueOnce({ value: product(), etag: '"v1.0"' })
      .mockResolvedValueOnce({ value: product({ version: 2, name: 'Theirs' }), etag: '"v2.0"' });
    const stale = new ApiProblem(readProblem(412, { code: 'version_mismatch', detail: 'x' }, null));
    const api = { getProduct, patchProduct: () => Promise.reject(stale) };
    render(<EditProduct api={api} id="p1" newestVersion={1} onSaved={nothing} onClose={nothing} />);
    await userEvent.type(await screen.findByLabelText('Name'), '!');
    await userEvent.click(screen.getByRole('button', { name: 'Save changes' }));
    await userEvent.click(await screen.findByRole('button', { name: 'Load the newest' }));
    expect(await screen.findByDisplayValue('Theirs')).toBeTruthy();
  });

  it('says that the product changed while it is being edited', async () => {
    const api = {
      getProduct: () => Promise.resolve({ value: product(), etag: null }),
      patchProduct: () => Promise.reject(new Error('not asked')),
    };
    const dialog = (newest: number) => (
      <EditProduct api={api} id="p1" newestVersion={newest} onSaved={nothing} onClose={nothing} />
    );
    const { rerender } = render(dialog(1));
    await screen.findByLabelText('Name');
    expect(screen.queryByRole('status')).toBeNull();
    rerender(dialog(2));
    expect(screen.getByRole('status').textContent).toContain('changed by somebody else');
  });
});

describe('adjusting stock', () => {
  it('shows what will be left and says what the API refuses', async () => {
    const [row] = rowsOf(mergeProducts(EMPTY_CATALOG, [product({ stock: 10 })]));
    if (row === undefined) throw new Error('one row was made');
    const refusal = new ApiProblem(readProblem(409, { detail: 'Only 10 units are left.' }, null));
    const adjustStock = () => Promise.reject(refusal);
    render(<AdjustStock api={{ adjustStock }} row={row} onSaved={nothing} onClose={nothing} />);
    await userEvent.type(screen.getByLabelText('Change'), '-4');
    expect(screen.getByText('6')).toBeTruthy();
    await userEvent.type(screen.getByLabelText('Reason'), 'damaged');
    await userEvent.click(screen.getByRole('button', { name: 'Adjust stock' }));
    expect((await screen.findByRole('alert')).textContent).toContain('Only 10 units are left.');
  });
});

describe('the event panel', () => {
  const stock = stockEvent('p1', 4, 1);
  const created = productEvent(product(), 'product.created');

  it('shows only the kind that was chosen', async () => {
    render(<EventPanel log={[stock, created]} received={2} phase="live" />);
    expect(screen.getAllByRole('listitem')).toHaveLength(2);
    await userEvent.click(screen.getByRole('radio', { name: 'Stock' }));
    expect(screen.getAllByRole('listitem')).toHaveLength(1);
  });

  it('shows all of an event when it is opened', async () => {
    render(<EventPanel log={[created]} received={1} phase="live" />);
    expect(screen.queryByText(/"priceMinor": 9999/)).toBeNull();
    await userEvent.click(screen.getByText(/^Lamp:/));
    expect(await screen.findByText(/"priceMinor": 9999/)).toBeTruthy();
  });

  it('stands still while paused and tells how many wait', async () => {
    const { rerender } = render(<EventPanel log={[created]} received={1} phase="live" />);
    await userEvent.click(screen.getByRole('button', { name: 'Pause' }));
    rerender(<EventPanel log={[stock, created]} received={2} phase="live" />);
    expect(screen.getAllByRole('listitem')).toHaveLength(1);
    await userEvent.click(screen.getByRole('button', { name: 'Resume (1 new)' }));
    expect(screen.getAllByRole('listitem')).toHaveLength(2);
  });
});

describe('the seller picker', () => {
  it('changes the seller on Enter, and back to all', async () => {
    const changed = vi.fn();
    const { rerender } = render(<SellerPicker seller={null} sellers={[]} onChange={changed} />);
    await userEvent.type(screen.getByLabelText('Seller'), 'seller2{Enter}');
    expect(changed).toHaveBeenLastCalledWith('seller2');
    rerender(<SellerPicker seller="seller2" sellers={[]} onChange={changed} />);
    await userEvent.click(screen.getByRole('button', { name: 'All sellers' }));
    expect(changed).toHaveBeenLastCalledWith(null);
  });
});

describe('the notices', () => {
  it('say why there are no events, and that events may be missing', () => {
    render(<Notices loadError={null} gap="evicted" refused="address" onDismissGap={nothing} />);
    expect(screen.getByText(/refused \(address\)/)).toBeTruthy();
    expect(screen.getByText(/too old to be sent again/)).toBeTruthy();
  });
});
