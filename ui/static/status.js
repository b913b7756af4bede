// Puts what /status/events tells in its place, and counts on between two words of it.
// All markup is made, and every text in it escaped, by the page's server (ui/components/status_pill.py).
const root = element.querySelector('.engine');
const place = (name) => element.querySelector(`[data-part="${name}"]`);
const parts = Object.fromEntries(['icon', 'words', 'panel'].map((name) => [name, place(name).innerHTML]));
const lost = {state: root.dataset.state, said: '', parts: {...parts}};
const LOST_MS = 2000, AGAIN_MS = 5000, TICK_MS = 100;
let target = new URL(window.location).searchParams.get('t') ?? '';  // where the page has several servers: whose engine
let collection = window.dormouseCollection;  // the key of what is shown (files.js), "" where it has none yet
let source = null, heard = 0, ticking = null, losing = null;

const seconds = (value) => (value < 10 ? value.toFixed(2) : value.toFixed(0)) + ' s';

const tick = () => {
  const since = (performance.now() - heard) / 1000;
  const left = element.querySelector('[data-left]');
  const elapsed = element.querySelector('[data-elapsed]');
  const meter = element.querySelector('[data-meter]');
  if (left) left.textContent = Math.max(0, Math.ceil(left.dataset.left - since));
  if (elapsed) {
    const now = elapsed.dataset.elapsed / 1000 + since;
    elapsed.textContent = seconds(now);
    if (meter) meter.style.width = `${Math.min(100, 100000 * now / meter.dataset.meter)}%`;
  }
  if (!left && !elapsed) rest();
};
const rest = () => { clearInterval(ticking); ticking = null; };

const show = (news) => {
  heard = performance.now();
  root.dataset.state = news.state;
  for (const [name, markup] of Object.entries(news.parts)) {
    if (parts[name] === markup) continue;
    parts[name] = markup;
    place(name).innerHTML = markup;
  }
  if (place('said').textContent !== news.said) place('said').textContent = news.said;
  if (news.version !== undefined) {
    window.dispatchEvent(new CustomEvent('dormouse-version', {detail: {key: collection, version: news.version}}));
  }
  window.dormouseStatus = {news, heard};  // for a timeline that is put on the page later
  window.dispatchEvent(new CustomEvent('dormouse-status', {detail: window.dormouseStatus}));
  ticking ??= setInterval(tick, TICK_MS);
  tick();
};

const found = () => { clearTimeout(losing); losing = null; };
const open = () => {
  if (source || document.hidden) return;
  const asked = new URLSearchParams({...(target && {target}), ...(collection !== undefined && {collection})});
  source = new EventSource(`/status/events?${asked}`);
  source.addEventListener('status', (event) => { found(); show(JSON.parse(event.data)); });
  source.addEventListener('error', () => {
    losing ??= setTimeout(() => show(lost), LOST_MS);
    if (source?.readyState !== EventSource.CLOSED) return;  // else the browser does not try again by itself
    source = null;
    setTimeout(open, AGAIN_MS);
  });
};
// A browser has six connections for all tabs of this page, and Gradio takes one for each: a tab that nobody sees gives
// ours back.
const close = () => { source?.close(); source = null; found(); rest(); };
document.addEventListener('visibilitychange', () => (document.hidden ? close() : open()));
const reopen = () => { close(); open(); };
window.addEventListener('dormouse-target', ({detail}) => {
  if (detail === target) return;
  target = detail;
  reopen();
});
window.addEventListener('dormouse-collection', () => {
  if (window.dormouseCollection === collection) return;
  collection = window.dormouseCollection;
  reopen();
});
window.addEventListener('pagehide', close);
window.addEventListener('pageshow', open);

root.addEventListener('keydown', (event) => {
  if (event.key !== 'Escape' || !root.open) return;
  root.open = false;
  root.querySelector('summary').focus();
});
document.addEventListener('pointerdown', (event) => { if (!root.contains(event.target)) root.open = false; });
root.addEventListener('focusout', (event) => {
  if (event.relatedTarget && !root.contains(event.relatedTarget)) root.open = false;
});
open();
