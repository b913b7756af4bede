// Puts what the page's server tells of the last minutes in its place, and moves on what goes on between two words of it.
// The pill (status.js) holds the only stream of events, and hands each on. All markup is the server's (ui/coldstart/timeline.py).
const place = (name) => element.querySelector(`[data-part="${name}"]`);
const root = place('root');
const FAST_MS = 100, SLOW_MS = 1000;
const still = window.matchMedia('(prefers-reduced-motion: reduce)');
const shown = {};
let heard = 0, ticking = null, run = '';

const seconds = (value) => (value < 10 ? value.toFixed(2) : value.toFixed(0)) + ' s';

const move = () => {
  const since = (performance.now() - heard) / 1000;
  root.style.setProperty('--since', since.toFixed(2));
  for (const left of root.querySelectorAll('[data-left]')) {
    left.textContent = Math.max(0, Math.ceil(left.dataset.left - since));
  }
  for (const elapsed of root.querySelectorAll('[data-elapsed]')) {
    elapsed.textContent = seconds(elapsed.dataset.elapsed / 1000 + since);
  }
  const bar = root.querySelector('[data-running]');
  if (!bar) return;
  const took = Number(bar.dataset.running) + since * 1000;
  const falls = bar.closest('.falls');
  bar.style.setProperty('--took', took.toFixed(0));
  const late = Math.max(0, took - Math.max(bar.dataset.running, falls.dataset.usual));
  falls.style.setProperty('--late', late.toFixed(0));
  falls.style.setProperty('--scale', (Number(falls.dataset.scale) + late).toFixed(0));
};
const tick = () => { if (!document.hidden && element.offsetParent) move(); };

const show = ({detail}) => {
  const {news} = detail;
  root.classList.toggle('lost', !news.timeline);
  clearInterval(ticking);
  ticking = null;
  if (!news.timeline) return;
  heard = detail.heard;
  for (const [name, markup] of Object.entries(news.timeline)) {
    if (shown[name] === markup) continue;
    shown[name] = markup;
    place(name).innerHTML = markup;
  }
  move();
  const fast = root.querySelector('[data-elapsed]') && !still.matches;
  ticking = setInterval(tick, fast ? FAST_MS : SLOW_MS);
  if (news.run && news.run !== run) trigger('click');  // a run that another browser may have started: the page asks for it
  run = news.run;
};
window.addEventListener('dormouse-status', show);
if (window.dormouseStatus) show({detail: window.dormouseStatus});
