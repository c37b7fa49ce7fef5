import { cleanup } from '@testing-library/react';
import { afterEach } from 'vitest';

// jsdom knows the element but not its modal methods.
Object.assign(HTMLDialogElement.prototype, {
  showModal(this: HTMLDialogElement) {
    this.setAttribute('open', '');
  },
  close(this: HTMLDialogElement) {
    this.removeAttribute('open');
  },
});

afterEach(cleanup);
