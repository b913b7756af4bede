// Pages found: a click shows one in full. The first is shown with every search, and marked by the page's server.
const MOVE_MS = 260;  // of a card to where the final ranking puts it
const SURPRISE_MS = 300;  // until a hand that was on its way to a card can know that it has moved
const cards = () => [...element.querySelectorAll('[data-page]')];
// The search whose first results are shown, "" for final ones.
const firstOf = () => element.querySelector('.hits.first')?.dataset.search ?? '';
const search = () => element.querySelector('.hits')?.dataset.search ?? '';
const measure = (card) => {  // from the gallery's own corner: the page may be scrolled meanwhile
  const [own, box] = [element, card].map((each) => each.getBoundingClientRect());
  return {left: box.left - own.left, top: box.top - own.top, width: box.width, height: box.height};
};
let first = '', places = new Map(), movedAt = -Infinity, focused = '';

element.addEventListener('focusin', (event) => { focused = event.target.closest('[data-page]')?.dataset.page ?? ''; });
element.addEventListener('focusout', (event) => { if (event.relatedTarget) focused = ''; });

// The card that was under the pointer before the cards moved, if they did so just now.
const aimedAt = (event) => {
  if (!event.detail || performance.now() - movedAt > SURPRISE_MS) return undefined;
  const own = element.getBoundingClientRect();
  const [x, y] = [event.clientX - own.left, event.clientY - own.top];
  const within = ({left, top, width, height}) => x >= left && x <= left + width && y >= top && y <= top + height;
  const [page] = [...places].find(([, box]) => within(box)) ?? [];
  return cards().find((card) => card.dataset.page === page);
};
element.addEventListener('click', (event) => {
  const card = aimedAt(event) ?? event.target.closest('[data-page]');
  if (!card) return;
  cards().forEach((other) => other.setAttribute('aria-current', other === card));
  window.dormouseAddress.openPage(card.dataset.page, {passing: !event.isTrusted});  // keys.js clicks for the arrow keys
  window.dormouseChose = true;
  window.dormousePages.open(card.dataset.page);
});

// First results give way to the final ranking of the same search: pages that both have move there.
const move = (card, from) => {
  const to = measure(card);
  const [x, y] = [from.left - to.left, from.top - to.top];
  if (x || y) card.animate([{transform: `translate(${x}px, ${y}px)`}, {transform: 'none'}], {duration: MOVE_MS, easing: 'ease-out'});
};
watch('value', () => {
  const isFinal = first && first === search() && !firstOf();
  if (isFinal) {
    movedAt = performance.now();
    if (focused && document.activeElement === document.body) {
      cards().find((card) => card.dataset.page === focused)?.focus({preventScroll: true});
    }
    if (!matchMedia('(prefers-reduced-motion: reduce)').matches) {
      for (const card of cards()) {
        const from = places.get(card.dataset.page);
        if (from) move(card, from);
        else card.animate([{opacity: 0}, {opacity: 1}], {duration: MOVE_MS});
      }
    }
  }
  first = firstOf();
  if (first) places = new Map(cards().map((card) => [card.dataset.page, measure(card)]));
});
