// One page in full: others of its document, others like it, its deletion, and its parts.

// Pages are asked for one at a time. What is asked meanwhile waits: of opened pages the last, of steps their sum.
let flying = null, waiting = null;
let reading = false;  // whether the text of the page is unfolded: it stays so
let focused = '';  // what had the keys when a page was asked for: its button is a new one then
const article = () => element.querySelector('.detail');
const send = (request) => {
  flying = {...request, token: String(Math.random())};
  trigger('submit', {page: article()?.dataset.page ?? '', step: '', number: '', ...flying});
};
const ask = (request) => {
  const at = document.activeElement;
  reading = Boolean(element.querySelector('.text')?.open);
  const kept = ['step', 'zoom', 'open', 'number'].find((name) => name in (at?.dataset ?? {}));
  focused = !element.contains(at) ? '' : kept ? `[data-${kept}${at.dataset[kept] ? `="${at.dataset[kept]}"` : ''}]` : '.window';
  if (!flying) send(request);
  else if (waiting?.step && request.step) waiting.step += request.step;
  else waiting = request;
};
const answered = () => {
  flying = null;
  const next = waiting;
  waiting = null;
  if (next) send(next);
};
const announcer = document.createElement('div');  // outside of what is replaced: a screen reader hears what changes in it
announcer.className = 'unseen';
announcer.setAttribute('role', 'status');
document.body.append(announcer);

window.dormousePages = {
  // A page found, which the address names already.
  open(page) { ask({page}); },

  // Returns whether there are pages to turn here.
  turn(step) {
    const button = element.querySelector(`[data-step="${step}"]`);
    if (!button?.offsetParent) return false;
    if (button.getAttribute('aria-disabled') !== 'true' || flying) ask({step});
    return true;
  },

  // The server has answered, or failed; what it shows comes with `watch` below, perhaps later than this.
  end() {
    const {token} = flying ?? {};
    if (token) setTimeout(() => { if (flying?.token === token) answered(); }, 500);
  },
};

element.addEventListener('click', (event) => {
  const button = event.target.closest('[data-delete], [data-like]');
  if (button) trigger('click', {page: button.dataset.delete ?? button.dataset.like, like: 'like' in button.dataset});
  if (event.target.closest('[data-close]')) window.dormouseAddress.closePage();
  const step = event.target.closest('[data-step]');
  if (step) window.dormousePages.turn(Number(step.dataset.step));
  const zoom = event.target.closest('[data-zoom]');
  if (zoom) window.dormouseViewer.zoom(Number(zoom.dataset.zoom));
  const other = event.target.closest('[data-open]');
  if (other) {
    window.dormouseChose = true;
    ask({page: other.dataset.open, turned: true});
  }
  const where = event.target.closest('[data-where]');
  if (!where || where.dataset.pending) return;
  where.dataset.pending = String(Math.random());  // until events.js has the answer
  where.nextElementSibling.textContent = where.dataset.looking;
  trigger('select', {page: where.dataset.where, token: where.dataset.pending});
});
element.addEventListener('change', (event) => {
  const field = event.target.closest('[data-number]');
  if (!field) return;
  const number = field.value.trim();
  if (/^\d+$/.test(number)) ask({number: Number(number)});
  else field.value = field.defaultValue;
});

const nameTurned = (page) => {
  const {turned, step, number} = flying;
  // Not where somebody has opened another one of the pages found meanwhile, which the address names.
  if (!(turned || step || number) || (waiting && !('step' in waiting || 'number' in waiting || waiting.turned))) return;
  window.dormouseAddress.openPage(page, {turned: true});
  announcer.textContent = [element.querySelector('.detail header p').textContent, element.querySelector('.told')?.textContent]
    .filter(Boolean).join('. ');
};
watch('value', () => {
  const page = article()?.dataset.page;
  for (const card of document.querySelectorAll('#gallery [data-page]')) {
    card.setAttribute('aria-current', card.dataset.page === page);
  }
  window.dormouseViewer.show();
  const mark = element.querySelector('.window .mark');  // on a long page it may be far below
  if (mark) {
    const view = mark.closest('.window');
    view.scrollTop = mark.offsetTop - view.clientHeight / 3;
    view.scrollLeft = mark.offsetLeft - view.clientWidth / 3;
  }
  if (window.dormouseChose) {
    window.dormouseChose = false;
    const box = element.getBoundingClientRect();
    if (box.top > window.innerHeight * 0.6 || box.top < 0) element.scrollIntoView({behavior: 'smooth', block: 'start'});
  }
  // The button that was pressed is gone, and with it where the keys were.
  if (window.dormouseLooked && document.activeElement === document.body) {
    element.querySelector('.where :is(input, [tabindex], button)')?.focus({preventScroll: true});
  }
  window.dormouseLooked = false;
  if (!flying || (page && article().dataset.token !== flying.token)) return;
  if (page) nameTurned(page);
  element.querySelector('.text')?.toggleAttribute('open', reading);
  if (focused && document.activeElement === document.body) element.querySelector(focused)?.focus({preventScroll: true});
  answered();
});
