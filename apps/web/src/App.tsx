import { useEffect, useMemo, useState, useSyncExternalStore } from 'react';

import { ApiClient } from './api/client';
import { fetchRecent } from './api/recent';
import type { Product } from './api/types';
import { AdjustStock } from './components/AdjustStock';
import { EventPanel } from './components/EventPanel';
import { Header } from './components/Header';
import { Notices } from './components/Notices';
import { CreateProduct, EditProduct } from './components/ProductDialogs';
import { ProductPanel } from './components/ProductPanel';
import type { Config } from './config';
import { rowsOf, type Row } from './console/catalog';
import { readSeller, writeSeller } from './console/seller';
import { ConsoleStore } from './console/store';
import { SharedStream } from './stream/shared';

/**
 * The open dialog. `turn` tells one opening from the next, also of the same dialog: the browser
 * closes a dialog before it says so, and by then the next opening may already be under way.
 */
interface Dialog {
  readonly kind: 'none' | 'create' | 'edit' | 'stock';
  readonly id: string;
  readonly turn: number;
}

const NO_DIALOG: Dialog = { kind: 'none', id: '', turn: 0 };

export function App({ config }: { readonly config: Config }) {
  const [seller, setSeller] = useState(() => readSeller(window.location.search));
  const [otherSellers, setOtherSellers] = useState<readonly string[]>([]);
  const [dialog, setDialog] = useState(NO_DIALOG);

  const api = useMemo(() => new ApiClient(config.apiUrl, seller), [config, seller]);
  const store = useMemo(
    () =>
      new ConsoleStore({
        api,
        connect: (handlers) =>
          new SharedStream({ url: config.streamUrl, sellerId: seller }, handlers),
        recent: () => fetchRecent(config.analyticsUrl, seller),
      }),
    [api, config, seller],
  );
  useEffect(() => {
    void store.start();
    return () => {
      store.stop();
    };
  }, [store]);
  const state = useSyncExternalStore(store.subscribe, store.getState);

  const rows = useMemo(() => rowsOf(state.catalog), [state.catalog]);
  const sellers = useMemo(
    () => [...new Set([...otherSellers, ...rows.map((row) => row.sellerId)])].sort(),
    [otherSellers, rows],
  );

  const show = (kind: Dialog['kind'], id = ''): void => {
    setDialog((before) => ({ kind, id, turn: before.turn + 1 }));
  };
  const close = (): void => {
    setDialog((now) => (now.turn === dialog.turn ? { ...now, kind: 'none' } : now));
  };
  const changeSeller = (next: string | null): void => {
    setOtherSellers(sellers);
    setSeller(next);
    writeSeller(next);
    close();
  };
  const saved = (product: Product): void => {
    store.saved(product);
    close();
  };
  const chosen: Row | undefined =
    dialog.kind === 'none' ? undefined : rows.find((row) => row.id === dialog.id);

  return (
    <>
      <Header phase={state.phase} seller={seller} sellers={sellers} onSeller={changeSeller} />
      <main className="layout">
        <Notices
          loadError={state.loadError}
          gap={state.gap}
          refused={state.refused}
          onDismissGap={() => {
            store.dismissGap();
          }}
        />
        <ProductPanel
          rows={rows}
          loading={state.loading}
          truncated={state.truncated}
          showSeller={seller === null}
          onCreate={() => {
            show('create');
          }}
          onEdit={(id) => {
            show('edit', id);
          }}
          onStock={(id) => {
            show('stock', id);
          }}
        />
        <EventPanel log={state.log} received={state.received} phase={state.phase} />
      </main>
      {dialog.kind === 'create' && (
        <CreateProduct
          key={dialog.turn}
          api={api}
          seller={seller}
          onSaved={saved}
          onClose={close}
        />
      )}
      {dialog.kind === 'edit' && chosen && (
        <EditProduct
          key={dialog.turn}
          api={api}
          id={chosen.id}
          newestVersion={chosen.version}
          onSaved={saved}
          onClose={close}
        />
      )}
      {dialog.kind === 'stock' && chosen && (
        <AdjustStock
          key={dialog.turn}
          api={api}
          row={chosen}
          onSaved={(change) => {
            store.stockChanged(change);
            close();
          }}
          onClose={close}
        />
      )}
    </>
  );
}
