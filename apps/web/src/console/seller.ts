/** The seller the console acts for, kept in the page's address so that a view can be shared. */

const PARAMETER = 'seller';

export function readSeller(search: string): string | null {
  const value = new URLSearchParams(search).get(PARAMETER)?.trim() ?? '';
  return value === '' ? null : value;
}

export function writeSeller(seller: string | null): void {
  const url = new URL(window.location.href);
  if (seller === null) url.searchParams.delete(PARAMETER);
  else url.searchParams.set(PARAMETER, seller);
  window.history.replaceState(null, '', url);
}
