import { createRoot } from 'react-dom/client';

import { App } from './App';
import { loadConfig } from './config';
import './styles.css';

const root = document.getElementById('root');
if (root === null) throw new Error('index.html has no element with the id "root"');

const config = await loadConfig(window.location);
createRoot(root).render(<App config={config} />);
